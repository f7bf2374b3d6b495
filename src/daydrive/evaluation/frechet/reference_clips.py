"""Real frames of other drives: how far apart real frames are among themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from daydrive.data.sampling.clips import fixed_clips
from daydrive.data.store.store import SPLITS, Store
from daydrive.evaluation.frechet.accumulator import FrechetAccumulator
from daydrive.evaluation.metrics.frame_metrics import Read
from daydrive.types import Clip


def clips_elsewhere(
    store: Store, split: str, length: int, count: int, frame_skip: int
) -> tuple[str | None, list[Clip]]:
    """Another split, the training one if it can be, and up to `count` clips of it; None where no drive is so long."""
    span = (length - 1) * frame_skip + 1
    for name in sorted(SPLITS, key=lambda name: name != "train"):
        if name != split and any(drive.frames >= span for drive in store.split(name)):
            return name, fixed_clips(store, name, length, count, frame_skip)
    return None, []


def add_others(
    accumulator: FrechetAccumulator, read: Read, clips: Sequence[Clip], numbers: Iterable[int], context: int
) -> None:
    """Adds those of the clips that have these numbers, one by one."""
    for number in numbers:
        (images,) = read([clips[number]]).images
        accumulator.add_other(number, images[context - 1], images[context:])
