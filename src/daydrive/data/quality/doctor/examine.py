"""All examinations of a store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daydrive.data.quality.check import BadRows, find_bad_rows
from daydrive.data.quality.doctor.clocks import examine_clocks
from daydrive.data.quality.doctor.features import DriveFeatures, look
from daydrive.data.quality.doctor.finding import Finding, frames_text, named, sorted_by_severity
from daydrive.data.quality.doctor.image_quality import examine_image_quality
from daydrive.data.quality.doctor.numbers import examine_amounts, examine_numbers
from daydrive.data.quality.doctor.readings import Readings, read
from daydrive.data.quality.doctor.scale import examine_scale
from daydrive.data.quality.doctor.split_leakage import examine_leaks
from daydrive.data.quality.doctor.steering import correlograms, examine_steering
from daydrive.data.store.store import Store
from daydrive.progress import DriveProgress
from daydrive.types import ACTION_NAMES

SAMPLED_DRIVES, SAMPLED_FRAMES = 64, 512
"""that a quick examination reads"""


def examine(store: Store, progress: DriveProgress | None = None) -> list[Finding]:
    """Reads every row and picture of a store; what is wrong, the gravest first. Memory grows by 300 bytes a frame."""
    drives = []
    for drive in store.drives:
        drives.append(look(store, drive, None if progress is None else progress.frames_done))
        if progress is not None:
            progress.drive_done()
    damaged = damages(store, find_bad_rows(store), drives)
    return sorted_by_severity([*damaged, *judge(drives)])


def judge(drives: Sequence[DriveFeatures]) -> list[Finding]:
    """What is wrong with drives that were looked at, but for what find-nan finds."""
    found = [*examine_numbers(drives), *examine_amounts(drives), *examine_clocks(drives)]
    relations = correlograms(drives)
    found += [*examine_steering(drives, relations), *examine_scale(drives, relations)]
    return [*found, *examine_image_quality(drives), *examine_leaks(drives)]


def examine_quickly(store: Store) -> list[Finding]:
    """Numbers and clocks of a sample of rows, without a picture; what is wrong, the gravest first."""
    count = len(store.drives)
    places = np.unique(np.linspace(0, count - 1, min(count, SAMPLED_DRIVES)).round().astype(int)).tolist()
    drives: list[Readings] = []
    for place in places:
        drive = store.drives[place]
        first = max(0, (drive.frames - SAMPLED_FRAMES) // 2)
        drives.append(read(store, drive, first, min(drive.frames, first + SAMPLED_FRAMES)))
    return sorted_by_severity([*examine_numbers(drives), *examine_clocks(drives)])


def damages(store: Store, bad: Sequence[BadRows], drives: Sequence[DriveFeatures]) -> list[Finding]:
    """Pictures that don't decode and values that are no numbers, one finding for each kind."""
    starts = {drive.name: drive.start for drive in drives}
    kinds: dict[tuple[str, str], list[BadRows]] = {}
    for rows in bad:
        if rows.what.startswith("the picture can't be decoded"):
            kinds.setdefault(("corrupt-picture", "the picture can't be decoded"), []).append(rows)
        elif rows.what.split()[0] not in ACTION_NAMES or rows.what.startswith("gear is none"):
            kinds.setdefault(("not-finite" if "gear" not in rows.what else "out-of-range", rows.what), []).append(rows)
    found = []
    for (code, what), places in kinds.items():
        names = tuple(dict.fromkeys(place.drive for place in places))
        count = sum(place.last - place.first + 1 for place in places)
        first = places[0]
        found.append(
            Finding(
                "warning" if code == "not-finite" else "fatal",
                code,
                f"{what} in {frames_text(count)} of {named(names, len(store.drives))}, first in '{first.drive}', frame "
                f"{first.first}" + (f" {first.what.removeprefix(what).strip()}" if code == "corrupt-picture" else ""),
                "replace what is damaged and prepare it again; `daydrive find-nan` lists all of them",
                names,
                size=float(count),
                unit="frames",
                frames=(first.first, first.last),
                rows=(starts[first.drive] + first.first,),
            )
        )
    return found
