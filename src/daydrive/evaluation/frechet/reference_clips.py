"""Reference clips: real frames of other drives, whose Fréchet distance is the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from daydrive.data.sampling.clips import fixed_clips
from daydrive.data.store.store import SPLITS, Store
from daydrive.evaluation.frechet.accumulator import FrechetAccumulator
from daydrive.evaluation.metrics.frame_metrics import ClipReader
from daydrive.types import Clip


def choose_reference_clips(
    store: Store, split: str, length: int, count: int, frame_skip: int
) -> tuple[str | None, list[Clip]]:
    """Another split, preferably 'train', and up to `count` of its clips; None, [] if no drive is long enough."""
    span = (length - 1) * frame_skip + 1
    for name in sorted(SPLITS, key=lambda name: name != "train"):
        if name != split and any(drive.frames >= span for drive in store.split(name)):
            return name, fixed_clips(store, name, length, count, frame_skip)
    return None, []


def add_reference_clips(
    accumulator: FrechetAccumulator, read: ClipReader, clips: Sequence[Clip], indices: Iterable[int], context: int
) -> None:
    """Adds the clips with these indices, one at a time."""
    for index in indices:
        (images,) = read([clips[index]]).images
        accumulator.add_reference(index, images[context - 1], images[context:])
