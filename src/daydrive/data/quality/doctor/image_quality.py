"""Checks of the images: frozen, repeated, black, overexposed, blank, blurred, red and blue swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.finding import Finding, drives_text
from daydrive.data.quality.doctor.readings import STANDING, Flags, longest_interval

SAME = 0.05
"""Difference in grey levels below which two images count as identical."""
FROZEN = 3
"""Consecutive repeats that indicate a frozen camera."""
REPEATED = 0.02
"""Share of repeated frames above which a drive is reported."""
BLACK, WHITE, BLANK = 8.0, 247.0, 3.0
SHARP, BLURRED = 0.12, 0.35
"""Sharpness below which an image is blurred: absolute, and relative to the store's median."""
RED_SKY, MIN_COLOUR_FRAMES = 0.075, 500
"""Redness of the upper third, alone and against the lower one, and frames from which a whole store is reported."""
DRIVE_BLUENESS, BLUE_SKY = 0.022, 0.05
"""Redness of the sky of a single drive that is reported, and blueness of that of the others."""
MIN_SHARE = 0.002
"""Share of affected frames above which a drive is reported."""


def check_image_quality(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """Yield findings on the images of the drives."""
    yield from _frozen(drives)
    yield from _exposure(drives)
    yield from _blurred(drives)
    yield from _colours(drives)


def moving(drive: DriveFeatures) -> Flags:
    """(N-1,) whether the car moves between consecutive frames, judged by its speed or else its pedals."""
    speed = drive.speed
    if speed is not None:
        return np.asarray(np.abs(speed[:-1]) > STANDING)
    braked = (drive.actions[:-1, 2] > 0) | (drive.actions[:-1, 3] == 0)
    return np.asarray(~braked & (drive.actions[:-1, 1] > 0))


def _frozen(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    for drive in drives:
        if len(drive) < 3:
            continue
        same = (drive.change < SAME) & moving(drive) & drive.valid[1:] & drive.valid[:-1]
        same &= (drive.contrast[1:] > BLANK) & (drive.contrast[:-1] > BLANK)
        first, end = longest_interval(same)
        if end - first >= FROZEN:
            yield Finding(
                "warning", "frozen-frames",
                f"the image is frozen for {end - first + 1} frames of drive '{drive.name}' while the car moves, "
                f"frames {first} to {end}", "cut that part out, or record it again", (drive.name,),
                size=float(end - first + 1), unit="frames", frames=(first, end),
                rows=tuple(drive.start + k for k in (max(first - 1, 0), first, end, min(end + 1, len(drive) - 1))),
            )  # fmt: skip
        share = float(same.sum() - (end - first if end - first >= FROZEN else 0)) / len(same)
        if share > REPEATED:
            at = int(np.flatnonzero(same)[0])
            yield Finding(
                "warning", "repeated-frames",
                f"{share:.0%} of the images of drive '{drive.name}' repeat the previous one while the car moves, "
                f"first frame {at + 1}",
                "prepare it with a lower --hz, at most the frame rate of the camera", (drive.name,), size=share,
                unit="share of the frames", frames=(at, at + 1),
                rows=(drive.start + at, drive.start + at + 1, drive.start + min(at + 2, len(drive) - 1)),
            )  # fmt: skip


def _exposure(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    kinds: tuple[tuple[str, str, Callable[[DriveFeatures], Flags]], ...] = (
        ("black", "are black", lambda d: d.level < BLACK),
        ("overexposed", "are overexposed", lambda d: d.level > WHITE),
        ("blank", "are blank", lambda d: (d.contrast < BLANK) & (d.level >= BLACK) & (d.level <= WHITE)),
    )
    for code, description, bad_of in kinds:
        bad = {drive.name: bad_of(drive) & drive.valid for drive in drives}
        yield from _flagged(drives, bad, code, description, "cut these frames out; check the exposure of the camera")


def _blurred(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    clear = {drive.name: drive.valid & (drive.contrast >= BLANK) for drive in drives}
    sharpness = np.concatenate([drive.sharpness[clear[drive.name]] for drive in drives])
    if len(sharpness) == 0:
        return
    median = float(np.median(sharpness))
    limit = max(SHARP, BLURRED * median)
    bad = {drive.name: (drive.sharpness < limit) & clear[drive.name] for drive in drives}
    yield from _flagged(
        drives, bad, "blurred", f"are blurred (sharpness below {limit:.2f}, median of the store {median:.2f})",
        "clean or focus the camera, or cut these frames out; check whether the images were upscaled",
    )  # fmt: skip


def _flagged(
    drives: Sequence[DriveFeatures], bad: dict[str, Flags], code: str, description: str, fix: str
) -> Iterator[Finding]:
    affected = [drive for drive in drives if bad[drive.name].sum() > MIN_SHARE * len(drive)]
    if not affected:
        return
    count = sum(int(bad[drive.name].sum()) for drive in affected)
    most = max(affected, key=lambda drive: int(bad[drive.name].sum()))
    first, end = longest_interval(bad[most.name])
    names = (most.name, *(drive.name for drive in affected if drive is not most))
    yield Finding(
        "warning", code,
        f"{count} images of {drives_text(names, len(drives))} {description}, first frames {first} to {end - 1} of "
        f"'{most.name}'", fix, names, whole=len(affected) == len(drives), size=float(count), unit="frames",
        frames=(first, end - 1), rows=tuple(dict.fromkeys((most.start + first, most.start + end - 1))),
    )  # fmt: skip


def _colours(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """Detect swapped colour channels by the sky: where it would be clearly red above a bluer ground, or a drive matches
    the others, under a blue sky, with red and blue swapped. Indoors, walls are slightly red."""
    usable = [drive for drive in drives if drive.valid.any()]
    blues = np.array([np.median(drive.blueness[drive.valid], axis=0) for drive in usable])
    if len(blues) == 0:
        return
    weights = np.array([len(drive) for drive in usable])
    above, below = (float(np.average(blues[:, k], weights=weights)) for k in (0, 1))
    if (
        weights.sum() >= MIN_COLOUR_FRAMES
        and above < -RED_SKY
        and (blues[:, 0] < 0).mean() > 0.7
        and below > above + RED_SKY
    ):
        wrong = list(range(len(usable)))
    else:
        wrong = []
        for k in range(len(usable)):
            rest = np.delete(blues, k, axis=0)
            if len(rest) < 3 or blues[k, 0] > -DRIVE_BLUENESS or np.median(rest[:, 0]) < BLUE_SKY:
                continue
            unchanged = np.abs(rest - blues[k]).sum(1).min()
            swapped = np.abs(rest + blues[k]).sum(1).min()
            if swapped < 0.5 * unchanged:
                wrong.append(k)
    if not wrong:
        return
    names = tuple(usable[k].name for k in wrong)
    drive = usable[wrong[0]]
    whole = len(wrong) == len(usable)
    expected = "skies are blue" if whole else f"{np.median(np.delete(blues, wrong, axis=0)[:, 0]):+.2f} in the others"
    yield Finding(
        "warning", "colours-swapped",
        f"red and blue seem to be swapped in {drives_text(names, len(drives))}: the blueness of the upper third is "
        f"{np.mean(blues[wrong, 0]):+.2f}, where {expected} (indoors, this says nothing)",
        "look at the images: if the sky is orange, swap red and blue (BGR to RGB) when recording", names,
        whole=whole, size=float(np.mean(blues[wrong, 0])), unit="blue against red",
        rows=tuple(drive.start + int(k) for k in np.linspace(0, len(drive) - 1, 4)),
    )  # fmt: skip
