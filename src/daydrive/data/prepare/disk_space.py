"""Whether the disk takes what a preparation is about to write."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from daydrive.data.prepare.shards import Job, UnfinishedError, prepared

SAMPLE = 8
"""frames of the first drive that are prepared to tell the size of one"""

ROW = 64
"""bytes of a row beside its picture, roughly"""


def check_space(jobs: Sequence[Job], to_do: Sequence[Job], folder: Path, table_here: bool) -> None:
    """UnfinishedError where the parts `to_do` and, with `table_here`, the table of all `jobs` are more than the disk of
    `folder` has left. Drives that don't say how long they are count like the mean of the others."""
    known = [job.drive.length for job in jobs if job.drive.length is not None]
    if not to_do or not known:
        return
    mean = sum(known) / len(known)
    coming, all_frames = (sum(job.drive.length or mean for job in some) for some in (to_do, jobs))
    needed = bytes_a_frame(to_do[0]) * (coming + (all_frames if table_here else 0))
    free = shutil.disk_usage(folder).free
    if needed > free:
        both = ", first drive by drive and then as a table" if table_here else ""
        raise UnfinishedError(
            f"{folder} has {_size(free)} left, and {round(all_frames)} frames take about {_size(needed)}{both}; free "
            "some, or choose a smaller --image-size, --jpeg-quality or --limit"
        )


def bytes_a_frame(job: Job) -> float:
    """Mean over its first frames."""
    some = list(itertools.islice(job.drive.frames(), SAMPLE))
    if not some:
        return 0.0
    return ROW + 8 * len(job.values) + sum(len(prepared(frame, job).image) for frame in some) / len(some)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
