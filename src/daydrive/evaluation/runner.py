"""The long part of an evaluation: clips are predicted and measured, by one process or by several, once each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import Store
from daydrive.devices import release_free_memory
from daydrive.distributed import DistributedContext
from daydrive.evaluation.accumulator import MetricAccumulator, margin
from daydrive.evaluation.frechet import Features, FrechetAccumulator, add_others
from daydrive.evaluation.metrics.frame_metrics import (
    FIXED_BATCH_SIZE,
    Dream,
    frame_metrics,
    other_clips,
    predict_clips,
)
from daydrive.evaluation.metrics.slices import kind_of, speeds
from daydrive.evaluation.output import MEASURED
from daydrive.evaluation.rollout_cache import RolloutCache
from daydrive.perceptual import Distance
from daydrive.types import Clip, Rollout

SAVE_SECONDS = 30.0
SAVE_SHARE = 0.05
"""What is measured is saved so often, and not more often than takes this share of the time."""

Progress = Callable[[int, int], None]
"""Called with how many clips are done, and of how many."""


class Task(NamedTuple):
    """Clips of a store, predicted after `context` frames, also with the actions that `seed` lends them.

    reference_clips: of another split, for the Fréchet distances. batch_size: clips in memory at a time, as a multiple
    of `FIXED_BATCH_SIZE`. average: the mean image. cached: the numbers of clips whose frames are kept on disk, besides
    the worst.
    """

    store: Store
    clips: Sequence[Clip]
    reference_clips: Sequence[Clip]
    context: int
    seed: int
    batch_size: int
    average: Tensor
    lpips: Distance | None
    features: Sequence[Features]
    cached: Collection[int]

    @property
    def batches(self) -> list[range]:
        size = -(-self.batch_size // FIXED_BATCH_SIZE) * FIXED_BATCH_SIZE
        return [range(i, min(i + size, len(self.clips))) for i in range(0, len(self.clips), size)]

    def nothing(self) -> MetricAccumulator:
        return MetricAccumulator(FrechetAccumulator(self.clips[0].length - self.context, self.features))


def measure(dream: Dream, task: Task, folder: Path, dist: DistributedContext, progress: Progress | None) -> None:
    """This process's share of the batches that nothing in `folder` has yet; all processes call it.

    Each process has one file for all it measures, replaced now and then and at the end, whatever ends it.
    """
    files = measured_files(folder)
    before = task.nothing().read(files)
    done = set(before.numbers.tolist())
    missing = [batch for batch in task.batches if batch.start not in done]
    number = dist.rank + (int(files[-1].stem.partition("-")[2]) + 1 if files else 0)
    cache = RolloutCache(folder, task.cached, before.margins)
    work = _Work(dream, task, cache, folder / MEASURED.replace("*", f"{number:06d}"))
    del before
    dist.barrier()  # nobody writes before all have looked
    ahead = sum(len(batch) for batch in missing)

    def report(count: int) -> None:
        """count: clips of this process; the others are about as far."""
        if progress:
            progress(len(done) + min(dist.world_size * count, ahead), len(task.clips))

    try:
        for batch in missing[dist.rank :: dist.world_size]:
            work.do(batch, report)
    finally:
        work.save()


class _Work:
    """A process's share. file: what `save` replaces."""

    def __init__(self, dream: Dream, task: Task, cache: RolloutCache, file: Path) -> None:
        self._dream, self._task, self._cache, self._file = dream, task, cache, file
        self._partner = other_clips(task.clips, task.seed)
        self._speeds = speeds(task.store, task.clips, task.context)
        self._measured = task.nothing()
        self._whole = True
        self._next_save = time.monotonic() + SAVE_SECONDS

    def do(self, batch: range, report: Callable[[int], None]) -> None:
        task, before = self._task, len(self._measured)
        rollouts, metrics = list[Rollout](), list[dict[str, Tensor]]()
        for rollout in predict_clips(self._dream, task.store, task.clips, self._partner, task.context, batch):
            rollouts.append(rollout)
            metrics.append(frame_metrics(rollout, task.average, task.lpips))
            report(before + len(metrics))
        self._cache.add(batch, rollouts, [margin(of_clip) for of_clip in metrics])
        kinds = [kind_of(task.store, rollout, self._speeds[i]) for i, rollout in zip(batch, rollouts, strict=True)]
        self._whole = False
        for i, rollout in zip(batch, rollouts, strict=True):
            self._measured.frechet.add(i, rollout)
        others = range(batch.start, min(batch.stop, len(task.reference_clips)))
        add_others(self._measured.frechet, self._read, task.reference_clips, others, task.context)
        self._measured.add(batch, metrics, kinds)
        self._whole = True
        if time.monotonic() > self._next_save:
            self.save()

    def save(self) -> None:
        """Nothing where a batch was interrupted when half of it was added."""
        if not self._whole or not len(self._measured):
            return
        began = time.monotonic()
        self._measured.save(self._file)
        release_free_memory()
        now = time.monotonic()
        self._next_save = now + max(SAVE_SECONDS, (now - began) / SAVE_SHARE)

    def _read(self, clips: Sequence[Clip]) -> Any:
        return read_clips(self._task.store, clips)


def measured_files(folder: Path) -> list[Path]:
    """Those of all processes so far."""
    return sorted(folder.glob(MEASURED))
