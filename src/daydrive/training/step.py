"""Forward pass and loss of a batch, and the frames that metrics are computed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from daydrive import losses
from daydrive.config import LossConfig
from daydrive.distributed import processes_of_this_machine
from daydrive.losses import Distance
from daydrive.models import LossOutput, State, WorldModel
from daydrive.types import Batch, to_signed

PIXELS_PER_PASS = 3_000_000
"""Pixels of a forward pass on a CPU, divided among the processes of the machine: more are no faster, and a batch of the
base config would need over 24 GiB."""

Autocast = Callable[[], AbstractContextManager[object]]


class OngoingRollout(NamedTuple):
    """S futures of the same clips to continue: their states and sources of random numbers, and the next actions (B, K,
    action_dim)."""

    states: Sequence[State]
    generators: Sequence[torch.Generator]
    actions: Tensor


class ContinuedRollout(NamedTuple):
    """predicted: the next frames of each future (S, B, K, 3, H, W). states: after them. recon_loss: (B,), of the newest
    context frame."""

    predicted: Tensor
    states: Sequence[State]
    recon_loss: Tensor


class Objective(nn.Module):
    """A model's loss, or a piece of an ongoing rollout, as one module call, which DDP and DataParallel can wrap."""

    def __init__(self, model: WorldModel, config: LossConfig, distance: Distance) -> None:
        super().__init__()
        self.model, self.config, self.distance = model, config, distance

    def forward(
        self, images: Tensor, actions: Tensor, rollout: OngoingRollout | None = None
    ) -> LossOutput | ContinuedRollout:
        if rollout is None:
            return self.model.loss(images, actions, self.config, self.distance)
        states, futures = [], []
        for state, generator in zip(rollout.states, rollout.generators, strict=True):
            frames = []
            for t in range(rollout.actions.shape[1]):
                state, frame = self.model.step(state, rollout.actions[:, t], generator)
                frames.append(frame)
            states.append(state)
            futures.append(torch.stack(frames, dim=1))
        newest = images.shape[1] - 1
        reconstructed = self.model.reconstruct(images, actions, [newest])
        recon_loss = losses.reconstruction_loss(reconstructed.float(), images[:, newest:])
        return ContinuedRollout(torch.stack(futures), states, recon_loss)


class StepResult(NamedTuple):
    """The loss of a batch.

    loss: scalar to minimize. parts: the loss and its unweighted components by name, (B,) per clip. images: (B, T, 3,
    H, W) in [-1, 1] and actions: the model's inputs. output: of the model's `loss`.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    images: Tensor
    actions: Tensor
    output: LossOutput


class ClipFrames(NamedTuple):
    """The frames that metrics are computed on, in [-1, 1].

    images: the clips (B, T, 3, H, W). predicted: the last N frames as predicted (B, N, 3, H, W). reconstructed: (B,
    R, 3, H, W), of the frames with the indices `frames` (B, R).
    """

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
    """Forward pass and loss. objective: an `Objective`, wrapped or not.

    The loss is the sum of the per-clip losses times the batch's weights, or their mean without weights.
    """
    images = to_signed(batch.images)
    with autocast():
        output: LossOutput = objective(images, batch.actions)
    loss = output.per_clip.mean() if batch.weights is None else (batch.weights * output.per_clip).sum()
    parts = {"loss": output.per_clip, **output.parts}
    return StepResult(loss, {name: part.detach() for name, part in parts.items()}, images, batch.actions, output)


@torch.no_grad()
def frames_of(result: StepResult, model: WorldModel, seed: int, autocast: Autocast) -> ClipFrames:
    """The frames that the loss computed, or those of a rollout with `seed` where it computed none. Every process has to
    call it."""
    _, _, reconstructed, frames, predicted = result.output
    if reconstructed is not None and frames is not None and predicted is not None:
        return ClipFrames(result.images, predicted.detach(), reconstructed.detach(), frames)
    was_training = model.training
    model.eval()
    with autocast():
        output = model(result.images, result.actions, generator=torch.Generator().manual_seed(seed))
    model.train(was_training)
    clips, length = result.images.shape[:2]
    indices = torch.arange(length, device=result.images.device).expand(clips, -1)
    return ClipFrames(result.images, output["predicted"], output["reconstructed"], indices)


def clips_per_pass(batch: Batch) -> int:
    """Clips of one forward and backward pass. Gradients of the passes add up to those of the batch."""
    if batch.images.device.type != "cpu":
        return len(batch.images)
    return max(1, PIXELS_PER_PASS // processes_of_this_machine() // (batch.images[0].numel() // 3))
