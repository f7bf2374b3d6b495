"""The loss of a batch, and what the metrics look at."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daydrive.config import LossConfig
from daydrive.models import LossOutput, WorldModel
from daydrive.perceptual import Distance
from daydrive.types import Batch, to_signed

PIXELS_PER_PASS = 3_000_000
"""On a processor; more at once is no faster there, and a batch of the base settings would not fit into 24 GiB."""

Autocast = Callable[[], AbstractContextManager[object]]


class Objective(nn.Module):
    """A model's loss as one call, which is what DDP and DataParallel wrap."""

    def __init__(self, model: WorldModel, config: LossConfig, distance: Distance) -> None:
        super().__init__()
        self.model, self.config, self.distance = model, config, distance

    def forward(self, images: Tensor, actions: Tensor) -> LossOutput:
        return self.model.loss(images, actions, self.config, self.distance)


class StepResult(NamedTuple):
    """loss: what is minimised; parts: per clip, (B,), the loss and each part of it by its name, unweighted.

    images (B, T, 3, H, W) in [-1, 1] and actions: what the model was given; output: of its loss.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    images: Tensor
    actions: Tensor
    output: LossOutput


class ClipFrames(NamedTuple):
    """What metrics look at, in [-1, 1]: the clips' images (B, T, 3, H, W), the newest N of them as they were predicted
    (B, N, 3, H, W), and those with the numbers `frames` (B, R) as they were reconstructed (B, R, 3, H, W)."""

    images: Tensor
    predicted: Tensor
    reconstructed: Tensor
    frames: Tensor

    @property
    def context(self) -> int:
        return self.images.shape[1] - self.predicted.shape[1]

    @property
    def real(self) -> Tensor:
        """(B, N, 3, H, W), the frames that were predicted."""
        return self.images[:, self.context :]

    @property
    def seen(self) -> Tensor:
        """(B, R, 3, H, W), the frames that were reconstructed."""
        return self.images[torch.arange(len(self.images), device=self.images.device)[:, None], self.frames]


def evaluate_batch(objective: nn.Module, batch: Batch, autocast: Autocast) -> StepResult:
    """objective: an `Objective`, or what wraps one. The loss is the sum over the clips of their weights times theirs;
    without weights, their mean."""
    images = to_signed(batch.images)
    with autocast():
        output: LossOutput = objective(images, batch.actions)
    loss = output.per_clip.mean() if batch.weights is None else (batch.weights * output.per_clip).sum()
    parts = {"loss": output.per_clip, **output.parts}
    return StepResult(loss, {name: part.detach() for name, part in parts.items()}, images, batch.actions, output)


@torch.no_grad()
def frames_of(result: StepResult, model: WorldModel, seed: int, autocast: Autocast) -> ClipFrames:
    """What the loss has made of its clips or, where it needed no rollout, one with `seed`; all processes call it."""
    _, _, reconstructed, frames, predicted = result.output
    if reconstructed is not None and frames is not None and predicted is not None:
        return ClipFrames(result.images, predicted.detach(), reconstructed.detach(), frames)
    was_training = model.training
    model.eval()
    with autocast():
        output = model(result.images, result.actions, generator=torch.Generator().manual_seed(seed))
    model.train(was_training)
    clips, length = result.images.shape[:2]
    numbers = torch.arange(length, device=result.images.device).expand(clips, -1)
    return ClipFrames(result.images, output["predicted"], output["reconstructed"], numbers)


def clips_per_pass(batch: Batch) -> int:
    """How many clips go forward and backward at once; the sum of the passes' gradients is the batch's."""
    if batch.images.device.type != "cpu":
        return len(batch.images)
    return max(1, PIXELS_PER_PASS // (batch.images[0].numel() // 3))
