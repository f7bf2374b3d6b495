"""Which rows of which drive belong to which split."""

from __future__ import annotations

from collections.abc import Sequence

from daydrive.data.prepare import append, split
from daydrive.data.prepare.shards import Job
from daydrive.data.prepare.writer import Piece
from daydrive.data.sources import Source
from daydrive.data.store.store import SPLITS, Store


def pieces(
    source: Source, jobs: Sequence[Job], frames: Sequence[int], seed: int, there: Store | None, origin: int
) -> list[Piece]:
    """Rows of parts in the order of the store; the source's own split comes first.

    there: a store that they are added to, whose drives stay in their splits. origin: the new ones' in its origins.
    """
    drives = [job.drive for job in jobs]
    held = append.splits_of(there) if there else {}
    groups = [name for name in dict.fromkeys(drive.group or drive.name for drive in drives) if name not in held]
    if all(drive.split is not None for drive in drives):
        splits = [drive.split or "" for drive in drives]
    elif source.split == "drive" and len(groups) + len(held) >= 3:
        counts = append.counts_of(there) if there else {}
        drawn = {**held, **dict(zip(groups, split.added(len(groups), counts, seed), strict=True))}
        splits = [drawn[drive.group or drive.name] for drive in drives]
    else:
        cut = split.by_time(frames, drives[0].hz)
        return [
            Piece(
                job.file, f"{job.drive.name}.{part.split}", part.split, part.start, part.stop, job.drive.made_from,
                job.drive.group or job.drive.name, origin,
            )
            for part, job in ((part, jobs[part.drive]) for part in cut)
        ]  # fmt: skip
    return [
        Piece(job.file, job.drive.name, name, 0, count, job.drive.made_from, job.drive.group, origin)
        for name, job, count in sorted(zip(splits, jobs, frames, strict=True), key=lambda item: SPLITS.index(item[0]))
    ]
