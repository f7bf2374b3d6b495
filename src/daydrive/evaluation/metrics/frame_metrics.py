"""Frame-level accuracy of rollouts from fixed clips, with the same metrics for baselines.

Baselines without a model: copying the last real frame, constant optical flow, the mean image. Baselines from the model
itself: rollouts with another clip's actions and with no actions. A model that does not beat the former has learned
nothing about motion; a model that is not better than the latter ignores the actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_actions, read_clips
from daydrive.data.store.store import Store
from daydrive.evaluation.metrics.baselines import constant_flow
from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval
from daydrive.losses import Distance
from daydrive.metrics import change, psnr, sharpness, ssim, structure
from daydrive.types import Batch, Clip, Rollout, to_signed

RolloutFunction = Callable[[Tensor, Tensor], Tensor]
"""(context uint8 (B, C, 3, H, W), actions float32 (B, C-1+N, 4)) → uint8 (B, N, 3, H, W).

`actions[:, :C-1]` lie between the context frames, `actions[:, C-1:]` lead to the N predicted frames."""

ClipReader = Callable[[Sequence[Clip]], Batch]
"""`daydrive.data.sampling.clips.read_clips` bound to a store."""

FIXED_BATCH_SIZE = 8
"""Number of clips in every forward pass."""

UINT8_RANGE = 255.0


def other_clips(clips: Sequence[Clip], seed: int) -> list[int]:
    """For each clip, the index of the clip whose actions it is given: a permutation without fixed points.

    The drives are put into a random order drawn with `seed`, then the clips are rotated by half their number. The
    partner is from another drive unless one drive has more than half of the clips, and otherwise far away in the same
    drive.
    """
    if len(clips) < 2:
        raise ValueError("at least two clips are needed to exchange their actions")
    names = sorted({clip.drive for clip in clips})
    rank = dict(zip(names, np.random.default_rng(seed).permutation(len(names)).tolist(), strict=True))
    order = sorted(range(len(clips)), key=lambda i: (rank[clips[i].drive], clips[i].start))
    half = len(order) // 2
    partner = [0] * len(order)
    for position, i in enumerate(order):
        partner[i] = order[(position + half) % len(order)]
    return partner


def predict_clips(
    rollout_fn: RolloutFunction,
    store: Store,
    clips: Sequence[Clip],
    partner: Sequence[int],
    context: int,
    chosen: Sequence[int],
) -> list[Rollout]:
    """Rolls out the clips with the indices `chosen`: with true, another clip's and no actions. partner: see
    `other_clips`."""
    predict = with_fixed_batch_size(rollout_fn)
    batch = read_clips(store, [clips[i] for i in chosen])
    borrowed = read_actions(store, [clips[partner[i]] for i in chosen])
    seen, real = batch.images[:, :context], batch.images[:, context:]
    swapped = torch.cat((batch.actions[:, : context - 1], borrowed[:, context - 1 :]), dim=1)
    none = batch.actions.clone()
    none[:, context - 1 :, :3] = 0.0
    predicted, shuffled, idle = (predict(seen, actions) for actions in (batch.actions, swapped, none))
    for frames in (predicted, shuffled, idle):
        assert frames.shape == real.shape and frames.dtype == torch.uint8, (frames.shape, frames.dtype)
    return [
        Rollout(clips[i], seen[k], real[k], predicted[k], shuffled[k], idle[k], batch.actions[k])
        for k, i in enumerate(chosen)
    ]


def with_fixed_batch_size(rollout_fn: RolloutFunction) -> RolloutFunction:
    """Calls a rollout function with exactly `FIXED_BATCH_SIZE` clips at a time; short batches repeat their last clip.

    Convolutions and matrix products round differently for other batch sizes, and the differences grow with the steps.
    """

    def predict(context: Tensor, actions: Tensor) -> Tensor:
        parts = []
        for start in range(0, len(context), FIXED_BATCH_SIZE):
            indices = torch.arange(start, start + FIXED_BATCH_SIZE).clamp(max=len(context) - 1)
            parts.append(rollout_fn(context[indices], actions[indices])[: len(context) - start])
        return torch.cat(parts)

    return predict


def frame_metrics(rollout: Rollout, average: Tensor, lpips: Distance | None) -> dict[str, Tensor]:
    """Metrics of one clip by name, (N,) each. Computed from uint8 frames, so they do not depend on the batch.

    average: the mean image, uint8 (3, H, W). lpips: a distance between clips, see `daydrive.perceptual`.
    """
    real, predicted = rollout.real, rollout.predicted
    copied = rollout.last.expand_as(real)
    before = torch.cat((rollout.seen[-1:], real[:-1])), torch.cat((rollout.seen[-1:], predicted[:-1]))
    metrics = {
        "psnr": psnr(predicted, real, UINT8_RANGE),
        "ssim": ssim(predicted, real, UINT8_RANGE),
        "copy_last_psnr": psnr(copied, real, UINT8_RANGE),
        "copy_last_ssim": ssim(copied, real, UINT8_RANGE),
        "constant_flow_psnr": psnr(constant_flow(rollout.seen, len(real)), real, UINT8_RANGE),
        "mean_image_psnr": psnr(average.expand_as(real), real, UINT8_RANGE),
        "shuffled_actions_psnr": psnr(rollout.shuffled, real, UINT8_RANGE),
        "zero_actions_psnr": psnr(rollout.idle, real, UINT8_RANGE),
        "structure": structure(predicted, real),
        "copy_last_structure": structure(copied, real),
        "shuffled_actions_structure": structure(rollout.shuffled, real),
        "zero_actions_structure": structure(rollout.idle, real),
        "predicted_gradient": sharpness(predicted),
        "real_gradient": sharpness(real),
        "real_change": change(real, before[0]),
        "predicted_change": change(predicted, before[1]),
    }
    if lpips is not None:
        one = [to_signed(x)[:, None] for x in (predicted, copied, real)]
        metrics |= {"lpips": lpips(one[0], one[2]), "copy_last_lpips": lpips(one[1], one[2])}
    return metrics


POWERS = ("predicted_power", "real_power")
"""Metrics (N, octaves, 3), see `daydrive.evaluation.metrics.spectrum`; all others are (N,)."""
RATIOS = {"sharpness": ("predicted_gradient", "real_gradient"), "flicker": ("predicted_change", "real_change")}
"""Metrics that are ratios of two means: image detail, and change from frame to frame; 1 for real frames."""


def step_metrics(metrics: Mapping[str, Array], draws: Bootstrap | None) -> list[dict[str, Any]]:
    """One entry per step: the mean of each metric over the clips and its `NAME_interval` over drives, None without
    `draws`.

    `sharpness` and `flicker` are ratios of means, predicted over real; None at steps where the denominator is zero.
    """
    parts = {*POWERS, *(name for pair in RATIOS.values() for name in pair)}
    mean = {name: values.mean(0) for name, values in metrics.items() if name not in parts}
    bounds_of = {} if draws is None else {name: interval(draws.means(metrics[name])) for name in mean}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name, (predicted, real) in RATIOS.items():
            mean[name] = metrics[predicted].mean(0) / metrics[real].mean(0)
            if draws is not None:
                bounds_of[name] = interval(draws.means(metrics[predicted]) / draws.means(metrics[real]))
    return step_entries(mean, bounds_of)


def step_entries(mean: Mapping[str, Array], bounds_of: Mapping[str, tuple[Array, Array]]) -> list[dict[str, Any]]:
    """One entry per step with each of the values `mean` (steps,) and its `NAME_interval`, None where `bounds_of` has no
    lower and upper bounds (steps,) for it."""
    steps = len(next(iter(mean.values())))
    entries: list[dict[str, Any]] = [{"step": t + 1} for t in range(steps)]
    for t, entry in enumerate(entries):
        for name, values in mean.items():
            entry[name] = _number(values[t])
        for name in mean:
            bounds = [_number(bound[t]) for bound in bounds_of[name]] if name in bounds_of else None
            entry[f"{name}_interval"] = bounds
    return entries


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
