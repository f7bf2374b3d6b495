"""Predicts and measures each clip once, in one or several processes, resumably."""

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
from daydrive.evaluation.distribution import DistributionAccumulator, Features, add_reference_clips
from daydrive.evaluation.metrics.frame_metrics import (
    FIXED_BATCH_SIZE,
    RolloutFunction,
    frame_metrics,
    other_clips,
    predict_clips,
)
from daydrive.evaluation.metrics.slices import kind_of, speeds
from daydrive.evaluation.metrics.spectrum import ClipSpectrum, clip_spectrum
from daydrive.evaluation.output import MEASURED
from daydrive.evaluation.rollout_cache import RolloutCache
from daydrive.losses import Distance
from daydrive.types import Clip, Rollout

SAVE_SECONDS = 30.0
SAVE_SHARE = 0.05
"""Interval between saves, lengthened if saving would take more than this share of the time."""

Progress = Callable[[int, int], None]
"""Called with the number of finished clips and the total."""


class Task(NamedTuple):
    """What to predict and measure.

    clips: predicted after `context` frames, also with another clip's actions, assigned by `seed`. reference_clips: of
    another split, for the Fréchet distances. batch_size: clips in memory at a time, rounded up to a multiple of
    `FIXED_BATCH_SIZE`. average: the mean image, uint8 (3, H, W). cached: indices of the clips whose rollouts are
    cached on disk, besides the worst ones.
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
        """Ranges of clip indices."""
        size = -(-self.batch_size // FIXED_BATCH_SIZE) * FIXED_BATCH_SIZE
        return [range(i, min(i + size, len(self.clips))) for i in range(0, len(self.clips), size)]

    def empty_accumulator(self) -> MetricAccumulator:
        return MetricAccumulator(DistributionAccumulator(self.clips[0].length - self.context, self.features))


def measure(
    rollout_fn: RolloutFunction, task: Task, folder: Path, dist: DistributedContext, progress: Progress | None
) -> None:
    """Measures this process's share of the batches that are not yet in `folder`; all processes call it.

    Each process writes its results to one file, which is replaced from time to time and at the end, also after an
    error.
    """
    files = measured_files(folder)
    previous = task.empty_accumulator().read(files)
    done = set(previous.indices.tolist())
    missing = [batch for batch in task.batches if batch.start not in done]
    number = dist.rank + (int(files[-1].stem.partition("-")[2]) + 1 if files else 0)
    cache = RolloutCache(folder, task.cached, previous.margins)
    worker = _Worker(rollout_fn, task, cache, folder / MEASURED.replace("*", f"{number:06d}"))
    del previous
    dist.barrier()  # no process writes before all have read the folder
    remaining = sum(len(batch) for batch in missing)

    def on_progress(count: int) -> None:
        """count: clips of this process; the others are assumed to be equally far."""
        if progress:
            progress(len(done) + min(dist.world_size * count, remaining), len(task.clips))

    try:
        for batch in missing[dist.rank :: dist.world_size]:
            worker.process(batch, on_progress)
    finally:
        worker.save()


class _Worker:
    """Measures batches in one process. file: written by `save`."""

    def __init__(self, rollout_fn: RolloutFunction, task: Task, cache: RolloutCache, file: Path) -> None:
        self._rollout_fn, self._task, self._cache, self._file = rollout_fn, task, cache, file
        self._partner = other_clips(task.clips, task.seed)
        self._speeds = speeds(task.store, task.clips, task.context)
        self._measured = task.empty_accumulator()
        self._consistent = True
        self._next_save = time.monotonic() + SAVE_SECONDS

    def process(self, batch: range, on_progress: Callable[[int], None]) -> None:
        """Predicts and measures the clips with these indices."""
        task, previous = self._task, len(self._measured)
        rollouts, spectra, metrics = list[Rollout](), list[ClipSpectrum](), list[dict[str, Tensor]]()
        for rollout in predict_clips(self._rollout_fn, task.store, task.clips, self._partner, task.context, batch):
            rollouts.append(rollout)
            spectra.append(clip_spectrum(rollout.predicted, rollout.real, self._measured.spectrum.bands))
            metrics.append(frame_metrics(rollout, task.average, task.lpips) | spectra[-1].powers)
            on_progress(previous + len(metrics))
        self._cache.add(batch, rollouts, [margin(of_clip) for of_clip in metrics])
        kinds = [kind_of(task.store, rollout, self._speeds[i]) for i, rollout in zip(batch, rollouts, strict=True)]
        self._consistent = False
        for i, rollout, spectrum in zip(batch, rollouts, spectra, strict=True):
            self._measured.distribution.add(i, rollout)
            self._measured.spectrum.add(spectrum)
        references = range(batch.start, min(batch.stop, len(task.reference_clips)))
        add_reference_clips(self._measured.distribution, self._read, task.reference_clips, references, task.context)
        self._measured.add(batch, metrics, kinds)
        self._consistent = True
        if time.monotonic() > self._next_save:
            self.save()

    def save(self) -> None:
        """Saves the results, unless the last batch was interrupted while it was being added."""
        if not self._consistent or not len(self._measured):
            return
        started = time.monotonic()
        self._measured.save(self._file)
        release_free_memory()
        now = time.monotonic()
        self._next_save = now + max(SAVE_SECONDS, (now - started) / SAVE_SHARE)

    def _read(self, clips: Sequence[Clip]) -> Any:
        return read_clips(self._task.store, clips)


def measured_files(folder: Path) -> list[Path]:
    """The result files of all processes so far."""
    return sorted(folder.glob(MEASURED))
