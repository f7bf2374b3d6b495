"""Assignment of the rows of the shards to drives and splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from daydrive.data.prepare import append, split
from daydrive.data.prepare.shards import Job
from daydrive.data.prepare.writer import DriveRows
from daydrive.data.sources import Source
from daydrive.data.store.store import SPLITS, Store

MIN_GROUPS = 3
"""Number of independent drives from which whole drives can be assigned to three splits."""


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
    sizes: Counter[str] = Counter()
    for drive, count in zip(drives, frames, strict=True):
        group = drive.group or drive.name
        if group not in assigned:
            sizes[group] += count
    if all(drive.split is not None for drive in drives):
        splits = [drive.split or "" for drive in drives]
    elif source.split == "time" or len(sizes) + len(assigned) < MIN_GROUPS:
        return _cut(jobs, frames, origin)
    else:
        present = append.sizes_of(existing) if existing else {}
        chosen = split.by_frames(list(sizes.values()), present, seed)
        if existing is None and split.should_cut(list(sizes.values()), chosen, drives[0].hz):
            return _cut(jobs, frames, origin)
        by_group = {**assigned, **dict(zip(sizes, chosen, strict=True))}
        splits = [by_group[drive.group or drive.name] for drive in drives]
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


def splits_text(rows: Sequence[DriveRows], drives: int) -> list[str]:
    """What should be known about the splits of new rows, of `drives` drives: that few drives were cut by time, and that
    training is not the largest split."""
    frames = {name: sum(row.stop - row.start for row in rows if row.split == name) for name in SPLITS}
    notes = []
    if drives > 1 and any(row.name.endswith(tuple(f".{name}" for name in SPLITS)) for row in rows):
        shares = ", ".join(f"{count} {name}" for name, count in frames.items())
        notes.append(
            f"The {drives} drives are too few or too uneven to assign them to splits as a whole: they were cut by time "
            f"({shares} frames)."
        )
    biggest = max(frames, key=frames.__getitem__)
    if frames["train"] < frames[biggest]:
        notes.append(
            f"Warning: train has only {frames['train']} of {sum(frames.values())} frames, fewer than {biggest} "
            f"({frames[biggest]}); add drives, or change the splits with `daydrive data split`."
        )
    return notes


def _cut(jobs: Sequence[Job], frames: Sequence[int], origin: int) -> list[DriveRows]:
    segments = split.by_time(frames, jobs[0].drive.hz)
    return [
        DriveRows(
            job.file, f"{job.drive.name}.{segment.split}", segment.split, segment.start, segment.stop,
            job.drive.made_from, job.drive.group or job.drive.name, origin,
        )
        for segment, job in ((segment, jobs[segment.drive]) for segment in segments)
    ]  # fmt: skip
