"""Sampled futures: several rollouts of the same clips with different seeds, of a model that samples.

Where the future is open they should differ, where it is not they should agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.evaluation.clip_selection import evenly
from daydrive.evaluation.metrics.ensemble import ensemble_metrics, ensemble_steps, moments
from daydrive.evaluation.metrics.frame_metrics import FIXED_BATCH_SIZE, with_fixed_batch_size
from daydrive.evaluation.metrics.intervals import Array, bootstrap
from daydrive.report.plots import SampledClip
from daydrive.types import Clip

SampleFunction = Callable[[Tensor, Tensor, Sequence[int] | None], Tensor]
"""A `RolloutFunction` with one seed per clip, or None for the rollout without randomness, the most likely values."""

CLIPS = 16
SHOWN_CLIPS, SHOWN_SAMPLES = 3, 3
SHOWN_STEPS = (10, 50)
"""Of the contact sheet; the last step instead of those beyond it."""

CANNOT_BE_SEEDED = "not measured: a model behind an adapter or a plain function cannot be given seeds"


class SampledFutures(NamedTuple):
    """results: see `measure_samples`. steps, shown: of the contact sheet, empty where nothing was sampled."""

    results: dict[str, Any] | str
    steps: Sequence[int] = ()
    shown: Sequence[SampledClip] = ()


class _Measured(NamedTuple):
    """Of one clip: metrics (N,) by name, see `ensemble_metrics`, and its part of the contact sheet."""

    metrics: dict[str, Array]
    shown: SampledClip | None


def measure_samples(
    sample_fn: SampleFunction | None,
    store: Store,
    clips: Sequence[Clip],
    context: int,
    count: int,
    *,
    seed: int = 0,
    dist: DistributedContext | None = None,
) -> SampledFutures:
    """Samples `count` futures of each clip, all of one length, and the rollout without randomness.

    Every clip and sample has its own seed, derived from `seed`. dist: the processes that share the batches of clips.

    Results for `evaluation.json`: `count`, `clips` and `horizons`, see `ensemble_steps`; a sentence instead if the
    model cannot be seeded or does not sample.
    """
    if sample_fn is None:
        return SampledFutures(CANNOT_BE_SEEDED)
    dist = dist or DistributedContext.single(torch.device("cpu"))
    steps = shown_steps(clips[0].length - context)
    sheet = evenly(SHOWN_CLIPS, len(clips))
    batches = [range(i, min(i + FIXED_BATCH_SIZE, len(clips))) for i in range(0, len(clips), FIXED_BATCH_SIZE)]
    own = []
    for batch in dist.share(batches):
        read = read_clips(store, [clips[i] for i in batch])
        seen, real = read.images[:, :context], read.images[:, context:]
        deterministic = _predict(sample_fn, seen, read.actions, None)
        seeds = [[_seed(seed, i, k) for i in batch] for k in range(count)]
        samples = [_predict(sample_fn, seen, read.actions, each) for each in seeds]
        own.append(
            [
                _measure_clip(
                    torch.stack([each[k] for each in samples]), deterministic[k], real[k], steps if i in sheet else ()
                )
                for k, i in enumerate(batch)
            ]
        )
    measured = [of_clip for of_batch in dist.gather(own) for of_clip in of_batch]
    metrics = {name: np.stack([of_clip.metrics[name] for of_clip in measured]) for name in measured[0].metrics}
    if not metrics["variance"].any():
        return SampledFutures(f"the model does not sample: its {count} rollouts with different seeds are equal")
    draws = bootstrap([clip.drive for clip in clips], seed=seed)
    return SampledFutures(
        {"count": count, "clips": len(clips), "horizons": ensemble_steps(metrics, draws)},
        steps,
        [of_clip.shown for of_clip in measured if of_clip.shown],
    )


def shown_steps(horizon: int) -> list[int]:
    """The steps of the contact sheet, in ascending order."""
    return sorted({min(step, horizon) for step in SHOWN_STEPS})


def _predict(sample_fn: SampleFunction, seen: Tensor, actions: Tensor, seeds: Sequence[int] | None) -> Tensor:
    """Rolls out at most `FIXED_BATCH_SIZE` clips."""
    padded = None if seeds is None else [*seeds, *[seeds[-1]] * (FIXED_BATCH_SIZE - len(seeds))]
    return with_fixed_batch_size(lambda context, taken: sample_fn(context, taken, padded))(seen, actions)


def _seed(seed: int, clip: int, sample: int) -> int:
    return int(np.random.SeedSequence((seed, clip, sample)).generate_state(1)[0])


def _measure_clip(samples: Tensor, deterministic: Tensor, real: Tensor, steps: Sequence[int]) -> _Measured:
    """steps: of the contact sheet, none if the clip is not on it."""
    metrics = ensemble_metrics(samples, deterministic, real)
    shown = None
    if steps:
        at = torch.tensor(steps) - 1
        variance, _ = moments(samples[:, at])
        spread = variance.mean(1).sqrt()
        shown = SampledClip(real[at], deterministic[at], samples[:SHOWN_SAMPLES, at], spread)
    return _Measured({name: values.double().numpy() for name, values in metrics.items()}, shown)
