"""The loss of a batch: what the guide's weights weigh."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daydrive import losses
from daydrive.config import LossConfig
from daydrive.models import WorldModelOutput
from daydrive.perceptual import Distance
from daydrive.types import Batch, to_signed

PIXELS_PER_PASS = 3_000_000
"""On a processor; more at once is no faster there, and a batch of the base settings would not fit into 24 GiB."""

Autocast = Callable[[], AbstractContextManager[object]]


class StepResult(NamedTuple):
    """loss: what is minimised; parts: per clip, (B,), the loss and each part of it by its name, unweighted.

    output, and images (B, T, 3, H, W) in [-1, 1]: for the metrics. frames: which of them were reconstructed.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    output: WorldModelOutput
    images: Tensor
    frames: list[int]


def evaluate_batch(
    model: nn.Module, batch: Batch, config: LossConfig, context_frames: int, perceptual: Distance, autocast: Autocast
) -> StepResult:
    """Dream the frames after the context, reconstruct some, and weigh what differs from the real ones.

    The loss is the sum over the clips of their weights times theirs; without weights, their mean.
    """
    images = to_signed(batch.images)
    frames = reconstructed_frames(images.shape[1], context_frames, config.recon_frames if model.training else None)
    with autocast():
        output = model(images, batch.actions, context_frames, frames)
    real = images[:, context_frames:]
    predicted = output["predicted"]
    parts = {
        "recon_loss": losses.reconstruction_loss(output["reconstructed"], images[:, frames]),
        "pred_loss": losses.prediction_loss(predicted, real),
        "perceptual_loss": perceptual(predicted, real),
        "latent_reg_loss": losses.latent_regularisation(output["latents"]),
        "temporal_loss": losses.temporal_loss(predicted, real, images[:, context_frames - 1]),
    }
    factors = {
        "recon_loss": config.recon_weight,
        "pred_loss": config.pred_weight,
        "perceptual_loss": config.perceptual_weight,
        "latent_reg_loss": config.latent_reg_weight,
        "temporal_loss": config.temporal_weight,
    }
    per_clip = torch.stack([factors[name] * part for name, part in parts.items()]).sum(dim=0)
    loss = per_clip.mean() if batch.weights is None else (batch.weights * per_clip).sum()
    told = {"loss": per_clip, **parts}
    return StepResult(loss, {name: part.detach() for name, part in told.items()}, output, images, frames)


def reconstructed_frames(length: int, context_frames: int, count: int | None) -> list[int]:
    """The `count` newest frames of the context; all frames of the clip without a count, or for more than there are."""
    if count is None or count >= length:
        return list(range(length))
    return list(range(context_frames))[-count:]


def clips_per_pass(batch: Batch) -> int:
    """How many clips go forward and backward at once; the sum of the passes' gradients is the batch's."""
    if batch.images.device.type != "cpu":
        return len(batch.images)
    return max(1, PIXELS_PER_PASS // (batch.images[0].numel() // 3))
