"""The loss of a batch: what the guide's weights weigh."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from daydrive import losses
from daydrive.config import LossConfig
from daydrive.models import WorldModel, WorldModelOutput
from daydrive.perceptual import Distance
from daydrive.types import Batch, to_signed

PIXELS_PER_PASS = 3_000_000
"""On a processor; more at once is no faster there, and a batch of the base settings would not fit into 24 GiB."""


class StepResult(NamedTuple):
    """loss: what is minimised; parts: each part of it by its name, unweighted; output and images: for the metrics."""

    loss: Tensor
    parts: dict[str, Tensor]
    output: WorldModelOutput
    images: Tensor


def evaluate_batch(
    model: WorldModel, batch: Batch, config: LossConfig, context_frames: int, perceptual: Distance, amp: bool
) -> StepResult:
    """Dream the frames after the context, reconstruct some, and weigh what differs from the real ones."""
    images = to_signed(batch.images)
    length = images.shape[1]
    frames = list(range(length))
    if model.training and config.recon_frames is not None and config.recon_frames < length:
        frames = frames[:context_frames][-config.recon_frames :]
    with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
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
    weights = {
        "recon_loss": config.recon_weight,
        "pred_loss": config.pred_weight,
        "perceptual_loss": config.perceptual_weight,
        "latent_reg_loss": config.latent_reg_weight,
        "temporal_loss": config.temporal_weight,
    }
    loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return StepResult(loss, {name: part.detach() for name, part in parts.items()}, output, images)


def clips_per_pass(batch: Batch) -> int:
    """How many clips go forward and backward at once; the mean of the passes' gradients is the batch's."""
    if batch.images.device.type != "cpu":
        return len(batch.images)
    return max(1, PIXELS_PER_PASS // (batch.images[0].numel() // 3))
