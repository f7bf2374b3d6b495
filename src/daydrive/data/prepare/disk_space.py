"""Checks that the disk has enough space for a preparation."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from daydrive.data.prepare.shards import Job, UnfinishedError, prepare_frame

SAMPLE = 8
"""Number of frames prepared to estimate the size of a frame."""

ROW = 64
"""Approximate size of a row in bytes, without its image."""


def check_disk_space(jobs: Sequence[Job], pending: Sequence[Job], folder: Path, local_table: bool) -> None:
    """Raise UnfinishedError if the disk of `folder` lacks the space for the shards of `pending` and, with
    `local_table`, the table of all `jobs`. Drives of unknown length count as the mean of the others."""
    known = [job.drive.length for job in jobs if job.drive.length is not None]
    if not pending or not known:
        return
    mean = sum(known) / len(known)
    pending_frames, all_frames = (sum(job.drive.length or mean for job in group) for group in (pending, jobs))
    needed = bytes_per_frame(pending[0]) * (pending_frames + (all_frames if local_table else 0))
    free = shutil.disk_usage(folder).free
    if needed > free:
        both = ", for the shards and the table" if local_table else ""
        raise UnfinishedError(
            f"{folder} has {_size(free)} of free space, and {round(all_frames)} frames need about {_size(needed)}"
            f"{both}; free some space, or choose a smaller --image-size, --jpeg-quality or --limit"
        )


def bytes_per_frame(job: Job) -> float:
    """Mean size of the first frames of a drive."""
    sample = list(itertools.islice(job.drive.frames(), SAMPLE))
    if not sample:
        return 0.0
    return ROW + 8 * len(job.values) + sum(len(prepare_frame(frame, job).image) for frame in sample) / len(sample)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
