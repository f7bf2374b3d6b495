"""The long part of an evaluation: clips are dreamt and measured, by one process or by several, once each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import Store
from daydrive.devices import give_memory_back
from daydrive.distributed import DistributedContext
from daydrive.evaluation.accumulator import Measured, margin
from daydrive.evaluation.frechet import Features, Spread, see_others
from daydrive.evaluation.metrics.frame_metrics import TOGETHER, Dream, Rollout, dreamt, frame_figures, other_clips
from daydrive.evaluation.metrics.slices import kind_of, speeds
from daydrive.evaluation.output import MEASURED
from daydrive.evaluation.rollout_cache import Kept
from daydrive.perceptual import Distance
from daydrive.types import Clip

SAVE_SECONDS = 30.0
SAVE_SHARE = 0.05
"""What is measured is saved so often, and not more often than takes this share of the time."""

Progress = Callable[[int, int], None]
"""Told how many clips are done, of how many."""


class Task(NamedTuple):
    """Clips of a store, dreamt after `context` frames, also with the actions that `seed` lends them.

    strangers: clips of another split, for the Fréchet distances. batch_size: clips in memory at a time, as a multiple
    of `TOGETHER`. average: the mean picture. kept: the numbers of clips whose pictures are wanted, besides the worst.
    """

    store: Store
    clips: Sequence[Clip]
    strangers: Sequence[Clip]
    context: int
    seed: int
    batch_size: int
    average: Tensor
    lpips: Distance | None
    features: Sequence[Features]
    kept: Collection[int]

    @property
    def batches(self) -> list[range]:
        size = -(-self.batch_size // TOGETHER) * TOGETHER
        return [range(i, min(i + size, len(self.clips))) for i in range(0, len(self.clips), size)]

    def nothing(self) -> Measured:
        return Measured(Spread(self.clips[0].length - self.context, self.features))


def measure(dream: Dream, task: Task, folder: Path, dist: DistributedContext, progress: Progress | None) -> None:
    """This process's share of the batches that nothing in `folder` has yet; all processes call it.

    Each process has one file for all it measures, replaced now and then and at the end, whatever ends it.
    """
    files = measured_files(folder)
    before = task.nothing().read(files)
    done = set(before.numbers.tolist())
    missing = [batch for batch in task.batches if batch.start not in done]
    number = dist.rank + (int(files[-1].stem.partition("-")[2]) + 1 if files else 0)
    work = _Work(dream, task, Kept(folder, task.kept, before.margins), folder / MEASURED.replace("*", f"{number:06d}"))
    del before
    dist.barrier()  # nobody writes before all have looked
    ahead = sum(len(batch) for batch in missing)

    def tell(count: int) -> None:
        """count: clips of this process; the others are about as far."""
        if progress:
            progress(len(done) + min(dist.world * count, ahead), len(task.clips))

    try:
        for batch in missing[dist.rank :: dist.world]:
            work.do(batch, tell)
    finally:
        work.save()


class _Work:
    """A process's share. file: what `save` replaces."""

    def __init__(self, dream: Dream, task: Task, kept: Kept, file: Path) -> None:
        self._dream, self._task, self._kept, self._file = dream, task, kept, file
        self._partner = other_clips(task.clips, task.seed)
        self._paces = speeds(task.store, task.clips, task.context)
        self._measured = task.nothing()
        self._whole = True
        self._next_save = time.monotonic() + SAVE_SECONDS

    def do(self, batch: range, tell: Callable[[int], None]) -> None:
        task, before = self._task, len(self._measured)
        rollouts, figures = list[Rollout](), list[dict[str, Tensor]]()
        for rollout in dreamt(self._dream, task.store, task.clips, self._partner, task.context, batch):
            rollouts.append(rollout)
            figures.append(frame_figures(rollout, task.average, task.lpips))
            tell(before + len(figures))
        self._kept.see(batch, rollouts, [margin(of_clip) for of_clip in figures])
        kinds = [kind_of(task.store, rollout, self._paces[i]) for i, rollout in zip(batch, rollouts, strict=True)]
        self._whole = False
        for i, rollout in zip(batch, rollouts, strict=True):
            self._measured.spread.see(i, rollout)
        others = range(batch.start, min(batch.stop, len(task.strangers)))
        see_others(self._measured.spread, self._read, task.strangers, others, task.context)
        self._measured.add(batch, figures, kinds)
        self._whole = True
        if time.monotonic() > self._next_save:
            self.save()

    def save(self) -> None:
        """Nothing where a batch was interrupted when half of it was added."""
        if not self._whole or not len(self._measured):
            return
        began = time.monotonic()
        self._measured.save(self._file)
        give_memory_back()
        now = time.monotonic()
        self._next_save = now + max(SAVE_SECONDS, (now - began) / SAVE_SHARE)

    def _read(self, clips: Sequence[Clip]) -> Any:
        return read_clips(self._task.store, clips)


def measured_files(folder: Path) -> list[Path]:
    """Those of all processes so far."""
    return sorted(folder.glob(MEASURED))
