"""How far ahead a dream stays true: rollouts from fixed clips, each figure beside its floors.

Two floors: copying the last real frame, and the same rollout with another clip's actions. A model that does not beat
the first has learned nothing about motion; one that does not lose by the second ignores the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.metrics import psnr, sharpness, ssim
from daydrive.types import Batch, Clip

Dream = Callable[[Tensor, Tensor], Tensor]
"""(context uint8 (B, C, 3, H, W), actions float32 (B, C-1+N, 4)) → uint8 (B, N, 3, H, W).

`actions[:, :C-1]` lie between the context's frames, `actions[:, C-1:]` lead to the N frames dreamt."""

Read = Callable[[Sequence[Clip]], Batch]
"""Reads clips: `daydrive.data.clips.read_clips` bound to a store."""

UINT8_RANGE = 255.0


class Rollout(NamedTuple):
    """One clip, seen and dreamt.

    seen: uint8 (C, 3, H, W); real, predicted, shuffled: uint8 (N, 3, H, W), `shuffled` dreamt with another clip's
    actions after the context. actions: float32 (C-1+N, 4), the clip's own.
    """

    clip: Clip
    seen: Tensor
    real: Tensor
    predicted: Tensor
    shuffled: Tensor
    actions: Tensor

    @property
    def last(self) -> Tensor:
        """The last real frame before the dream, (3, H, W): what copying predicts for every step."""
        return self.seen[-1]

    def alone(self) -> Rollout:
        """A copy that does not keep its batch in memory."""
        return Rollout(self.clip, *(x.clone() for x in self[1:] if isinstance(x, Tensor)))


def other_clips(clips: Sequence[Clip], seed: int) -> list[int]:
    """For each clip, the index of the one whose actions it borrows: a permutation in which no clip keeps its own.

    Half way round the clips, with the drives in an order drawn by `seed`: another drive's clip where no drive has more
    than half of them, and otherwise one far away in the same drive.
    """
    if len(clips) < 2:
        raise ValueError("another clip's actions need at least two clips")
    names = sorted({clip.drive for clip in clips})
    rank = dict(zip(names, np.random.default_rng(seed).permutation(len(names)).tolist(), strict=True))
    order = sorted(range(len(clips)), key=lambda i: (rank[clips[i].drive], clips[i].start))
    half = len(order) // 2
    partner = [0] * len(order)
    for position, i in enumerate(order):
        partner[i] = order[(position + half) % len(order)]
    return partner


def rollouts(
    dream: Dream, read: Read, clips: Sequence[Clip], context: int, batch_size: int, seed: int
) -> Iterator[Rollout]:
    """Every clip with its two dreams, one by one in the order given; holds one batch at a time."""
    partner = other_clips(clips, seed)
    for begin in range(0, len(clips), batch_size):
        chosen = range(begin, min(begin + batch_size, len(clips)))
        batch = read([clips[i] for i in chosen])
        borrowed = read([clips[partner[i]] for i in chosen]).actions
        seen, real = batch.images[:, :context], batch.images[:, context:]
        swapped = torch.cat((batch.actions[:, : context - 1], borrowed[:, context - 1 :]), dim=1)
        predicted, shuffled = dream(seen, batch.actions), dream(seen, swapped)
        for pictures in (predicted, shuffled):
            assert pictures.shape == real.shape and pictures.dtype == torch.uint8, (pictures.shape, pictures.dtype)
        for k, i in enumerate(chosen):
            yield Rollout(clips[i], seen[k], real[k], predicted[k], shuffled[k], batch.actions[k])


def frame_figures(rollout: Rollout) -> dict[str, list[float]]:
    """Figures of one clip, N each, from uint8 pictures; so they don't depend on the batch it came in.

    Plain numbers: small tensors that are kept would pin the large ones freed around them.
    """
    real, predicted = rollout.real, rollout.predicted
    copied = rollout.last.expand_as(real)
    figures = {
        "psnr": psnr(predicted, real, UINT8_RANGE),
        "ssim": ssim(predicted, real, UINT8_RANGE),
        "copy_last_psnr": psnr(copied, real, UINT8_RANGE),
        "copy_last_ssim": ssim(copied, real, UINT8_RANGE),
        "shuffled_actions_psnr": psnr(rollout.shuffled, real, UINT8_RANGE),
        "predicted_gradient": sharpness(predicted),
        "real_gradient": sharpness(real),
    }
    return {name: values.tolist() for name, values in figures.items()}


def over_clips(figures: Sequence[dict[str, list[float]]]) -> list[dict[str, Any]]:
    """One entry per step: means over the clips; `sharpness` is the ratio of the mean gradients, predicted over real.

    `sharpness` is None at a step where the real frames are flat.
    """
    mean = {name: np.mean([f[name] for f in figures], axis=0).tolist() for name in figures[0]}
    predicted, real = mean.pop("predicted_gradient"), mean.pop("real_gradient")
    ratio = [round(p / r, 6) if r > 0 else None for p, r in zip(predicted, real, strict=True)]
    return [
        {
            "step": t + 1,
            "psnr": round(mean["psnr"][t], 6),
            "ssim": round(mean["ssim"][t], 6),
            "sharpness": ratio[t],
            "copy_last_psnr": round(mean["copy_last_psnr"][t], 6),
            "copy_last_ssim": round(mean["copy_last_ssim"][t], 6),
            "shuffled_actions_psnr": round(mean["shuffled_actions_psnr"][t], 6),
        }
        for t in range(len(ratio))
    ]
