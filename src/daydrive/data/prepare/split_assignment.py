"""Assignment of the rows of the shards to drives and splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from daydrive.data.prepare import append, split
from daydrive.data.prepare.shards import Job
from daydrive.data.prepare.writer import DriveRows
from daydrive.data.sources import Source
from daydrive.data.store.store import SPLITS, Store


def assign_splits(
    source: Source, jobs: Sequence[Job], frames: Sequence[int], seed: int, existing: Store | None, origin: int
) -> list[DriveRows]:
    """Return the rows of the shards as drives with splits, in the order of the store. Splits of the source take
    precedence.

    frames: length of each drive. existing: a store the drives are added to, whose drives keep their splits. origin:
    index of the new drives' origin in that store.
    """
    drives = [job.drive for job in jobs]
    assigned = append.splits_of(existing) if existing else {}
    groups = [name for name in dict.fromkeys(drive.group or drive.name for drive in drives) if name not in assigned]
    if all(drive.split is not None for drive in drives):
        splits = [drive.split or "" for drive in drives]
    elif source.split == "drive" and len(groups) + len(assigned) >= 3:
        counts = append.counts_of(existing) if existing else {}
        by_group = {**assigned, **dict(zip(groups, split.by_drive_added(len(groups), counts, seed), strict=True))}
        splits = [by_group[drive.group or drive.name] for drive in drives]
    else:
        segments = split.by_time(frames, drives[0].hz)
        return [
            DriveRows(
                job.file, f"{job.drive.name}.{segment.split}", segment.split, segment.start, segment.stop,
                job.drive.made_from, job.drive.group or job.drive.name, origin,
            )
            for segment, job in ((segment, jobs[segment.drive]) for segment in segments)
        ]  # fmt: skip
    return [
        DriveRows(job.file, job.drive.name, name, 0, count, job.drive.made_from, job.drive.group, origin)
        for name, job, count in sorted(zip(splits, jobs, frames, strict=True), key=lambda item: SPLITS.index(item[0]))
    ]


def with_other_cameras(rows: Sequence[DriveRows], jobs: Sequence[Job]) -> list[DriveRows]:
    """The rows of drives and, after each, the same rows of the drives that other cameras recorded beside it."""
    found = []
    beside: dict[str | None, list[Job]] = defaultdict(list)
    for job in jobs:
        beside[job.drive.beside].append(job)
    names = {job.file: job.drive.name for job in jobs}
    for row in rows:
        name = names[row.file]
        found.append(row)
        for other in beside[name]:
            label = other.drive.name + row.name.removeprefix(name)
            found.append(replace(row, file=other.file, name=label, made_from=other.drive.made_from))
    return found
