"""Runs all checks of the doctor on a store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daydrive.data.quality.check import INVALID_GEAR, UNDECODABLE, BadRows, find_bad_rows
from daydrive.data.quality.doctor.clocks import check_clocks
from daydrive.data.quality.doctor.features import DriveFeatures, extract_features
from daydrive.data.quality.doctor.finding import Finding, drives_text, frames_text, sorted_by_severity
from daydrive.data.quality.doctor.image_quality import check_image_quality
from daydrive.data.quality.doctor.numbers import check_amounts, check_numbers
from daydrive.data.quality.doctor.readings import Readings, read_frames
from daydrive.data.quality.doctor.scale import check_scale
from daydrive.data.quality.doctor.split_leakage import check_leakage
from daydrive.data.quality.doctor.steering import check_steering, correlograms
from daydrive.data.store.store import Store
from daydrive.progress import DriveProgress
from daydrive.types import ACTION_NAMES

SAMPLED_DRIVES, SAMPLED_FRAMES = 64, 512
"""Maximum number of drives, and of frames per drive, that `examine_quickly` reads."""


def examine(store: Store, progress: DriveProgress | None = None) -> list[Finding]:
    """Read every row and image of a store and return the findings, most severe first.

    Memory grows by about 300 bytes per frame.
    """
    drives = []
    for drive in store.drives:
        drives.append(extract_features(store, drive, None if progress is None else progress.frames_done))
        if progress is not None:
            progress.drive_done()
    damage = damage_findings(store, find_bad_rows(store), drives)
    return sorted_by_severity([*damage, *diagnose(drives)])


def diagnose(drives: Sequence[DriveFeatures]) -> list[Finding]:
    """Run all checks on the features of the drives, except those of `find_bad_rows`."""
    found = [*check_numbers(drives), *check_amounts(drives), *check_clocks(drives)]
    found_correlograms = correlograms(drives)
    found += [*check_steering(drives, found_correlograms), *check_scale(drives, found_correlograms)]
    return [*found, *check_image_quality(drives), *check_leakage(drives)]


def examine_quickly(store: Store) -> list[Finding]:
    """Check numbers and clocks of a sample of rows without decoding images; return the findings, most severe first."""
    count = len(store.drives)
    sampled = np.unique(np.linspace(0, count - 1, min(count, SAMPLED_DRIVES)).round().astype(int)).tolist()
    drives: list[Readings] = []
    for index in sampled:
        drive = store.drives[index]
        first = max(0, (drive.frames - SAMPLED_FRAMES) // 2)
        drives.append(read_frames(store, drive, first, min(drive.frames, first + SAMPLED_FRAMES)))
    return sorted_by_severity([*check_numbers(drives), *check_clocks(drives)])


def damage_findings(store: Store, bad: Sequence[BadRows], drives: Sequence[DriveFeatures]) -> list[Finding]:
    """Images that cannot be decoded and invalid values, one finding per kind."""
    starts = {drive.name: drive.start for drive in drives}
    kinds: dict[tuple[str, str], list[BadRows]] = {}
    for rows in bad:
        if rows.problem.startswith(UNDECODABLE):
            kinds.setdefault(("corrupt-picture", UNDECODABLE), []).append(rows)
        elif rows.problem.split()[0] not in ACTION_NAMES or rows.problem == INVALID_GEAR:
            code = "not-finite" if "gear" not in rows.problem else "out-of-range"
            kinds.setdefault((code, rows.problem), []).append(rows)
    found = []
    for (code, problem), intervals in kinds.items():
        names = tuple(dict.fromkeys(rows.drive for rows in intervals))
        count = sum(rows.last - rows.first + 1 for rows in intervals)
        first = intervals[0]
        found.append(
            Finding(
                "warning" if code == "not-finite" else "fatal",
                code,
                f"{problem} in {frames_text(count)} of {drives_text(names, len(store.drives))}, first in "
                f"'{first.drive}', frame {first.first}"
                + (f" {first.problem.removeprefix(problem).strip()}" if code == "corrupt-picture" else ""),
                "replace the damaged frames and prepare the store again; `daydrive find-nan` lists all of them",
                names,
                size=float(count),
                unit="frames",
                frames=(first.first, first.last),
                rows=(starts[first.drive] + first.first,),
            )
        )
    return found
