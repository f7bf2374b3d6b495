"""Examinations of pictures: frozen or repeated, black, overexposed, blank, blurred, red and blue swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.finding import Finding, named
from daydrive.data.quality.doctor.readings import STANDING, Flags, longest_run

SAME = 0.05
"""grey levels; below this two pictures are the same one"""
FROZEN = 3
"""So many repeats in a row are a camera that froze."""
REPEATED = 0.02
BLACK, WHITE, BLANK = 8.0, 247.0, 3.0
SHARP, BLURRED = 0.12, 0.35
"""sharpness below which any picture is blurred, and against the store's median"""
BLUE, WARM = 0.015, 0.022
"""blue against red of skies, of a store as a whole and of a drive among others"""
FEW, MANY = 0.002, 0.05
"""share of the frames from which a fault of pictures counts in a drive, and from which it is many"""


def examine_image_quality(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    yield from _frozen(drives)
    yield from _exposure(drives)
    yield from _blurred(drives)
    yield from _colours(drives)


def moving(drive: DriveFeatures) -> Flags:
    """(N-1,) where the car moves from a frame to the next, as far as its speed or its pedals tell."""
    speed = drive.speed
    if speed is not None:
        return np.asarray(np.abs(speed[:-1]) > STANDING)
    braked = (drive.actions[:-1, 2] > 0) | (drive.actions[:-1, 3] == 0)
    return np.asarray(~braked & (drive.actions[:-1, 1] > 0))


def _frozen(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    for drive in drives:
        if len(drive) < 3:
            continue
        same = (drive.change < SAME) & moving(drive) & drive.seen[1:] & drive.seen[:-1]
        same &= (drive.contrast[1:] > BLANK) & (drive.contrast[:-1] > BLANK)
        first, end = longest_run(same)
        if end - first >= FROZEN:
            yield Finding(
                "warning", "frozen-frames",
                f"the picture stands still for {end - first + 1} frames of drive '{drive.name}' while the car moves, "
                f"frames {first} to {end}", "cut that part out, or record it again", (drive.name,),
                size=float(end - first + 1), unit="frames", frames=(first, end),
                rows=tuple(drive.start + k for k in (max(first - 1, 0), first, end, min(end + 1, len(drive) - 1))),
            )  # fmt: skip
        share = float(same.sum() - (end - first if end - first >= FROZEN else 0)) / len(same)
        if share > REPEATED:
            at = int(np.flatnonzero(same)[0])
            yield Finding(
                "warning", "repeated-frames",
                f"{share:.0%} of the pictures of drive '{drive.name}' repeat the one before while the car moves, "
                f"first frame {at + 1}", "prepare it with a lower --hz, at most the camera's own rate", (drive.name,),
                size=share, unit="share of the frames", frames=(at, at + 1),
                rows=(drive.start + at, drive.start + at + 1, drive.start + min(at + 2, len(drive) - 1)),
            )  # fmt: skip


def _exposure(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    kinds: tuple[tuple[str, str, Callable[[DriveFeatures], Flags]], ...] = (
        ("black", "are black", lambda d: d.level < BLACK),
        ("overexposed", "are overexposed", lambda d: d.level > WHITE),
        ("blank", "show nothing", lambda d: (d.contrast < BLANK) & (d.level >= BLACK) & (d.level <= WHITE)),
    )
    for code, said, bad_of in kinds:
        bad = {drive.name: bad_of(drive) & drive.seen for drive in drives}
        yield from _flagged(drives, bad, code, said, "cut these frames out; see the exposure of the camera")


def _blurred(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    clear = {drive.name: drive.seen & (drive.contrast >= BLANK) for drive in drives}
    every = np.concatenate([drive.sharpness[clear[drive.name]] for drive in drives])
    if len(every) == 0:
        return
    usual = float(np.median(every))
    limit = max(SHARP, BLURRED * usual)
    bad = {drive.name: (drive.sharpness < limit) & clear[drive.name] for drive in drives}
    yield from _flagged(
        drives, bad, "blurred", f"are blurred (less than {limit:.2f} of fine detail, the store's usual is {usual:.2f})",
        "clean or focus the camera, or cut these frames out; was the picture enlarged?",
    )  # fmt: skip


def _flagged(
    drives: Sequence[DriveFeatures], bad: dict[str, Flags], code: str, said: str, fix: str
) -> Iterator[Finding]:
    there = [drive for drive in drives if bad[drive.name].sum() > FEW * len(drive)]
    if not there:
        return
    count = sum(int(bad[drive.name].sum()) for drive in there)
    most = max(there, key=lambda drive: int(bad[drive.name].sum()))
    first, end = longest_run(bad[most.name])
    names = (most.name, *(drive.name for drive in there if drive is not most))
    yield Finding(
        "warning", code,
        f"{count} pictures of {named(names, len(drives))} {said}, first frames {first} to {end - 1} of "
        f"'{most.name}'", fix, names, whole=len(there) == len(drives), size=float(count), unit="frames",
        frames=(first, end - 1), rows=tuple(dict.fromkeys((most.start + first, most.start + end - 1))),
    )  # fmt: skip


def _colours(drives: Sequence[DriveFeatures]) -> Iterator[Finding]:
    """Skies are blue and ground is not: what is above bluer than neutral, or as in the store's other drives."""
    seen = [drive for drive in drives if drive.seen.any()]
    blues = np.array([np.median(drive.blueness[drive.seen], axis=0) for drive in seen])
    if len(blues) == 0:
        return
    weights = np.array([len(drive) for drive in seen])
    above, below = (float(np.average(blues[:, k], weights=weights)) for k in (0, 1))
    if above < -BLUE and (blues[:, 0] < 0).mean() > 0.7 and below > above - BLUE and np.abs(blues).max() > 2 * BLUE:
        wrong = list(range(len(seen)))
    else:
        wrong = []
        for k in range(len(seen)):
            rest = np.delete(blues, k, axis=0)
            if len(rest) < 3 or blues[k, 0] > -WARM or np.median(rest[:, 0]) < BLUE:
                continue
            as_is = np.abs(rest - blues[k]).sum(1).min()
            swapped = np.abs(rest + blues[k]).sum(1).min()
            if swapped < 0.5 * as_is:
                wrong.append(k)
    if not wrong:
        return
    names = tuple(seen[k].name for k in wrong)
    drive = seen[wrong[0]]
    whole = len(wrong) == len(seen)
    against = "skies are blue" if whole else f"{np.median(np.delete(blues, wrong, axis=0)[:, 0]):+.2f} in the others"
    yield Finding(
        "warning", "colours-swapped",
        f"red and blue look swapped in {named(names, len(drives))}: above, blue against red is "
        f"{np.mean(blues[wrong, 0]):+.2f}, where {against}", "swap red and blue (BGR to RGB) when recording", names,
        whole=whole, size=float(np.mean(blues[wrong, 0])), unit="blue against red",
        rows=tuple(drive.start + int(k) for k in np.linspace(0, len(drive) - 1, 4)),
    )  # fmt: skip
