"""Rollouts of any model: from a few real frames and the driver's actions, the frames to come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from daydrive.models import Predictor
from daydrive.models.interface import unroll
from daydrive.types import to_signed, to_uint8


@torch.no_grad()
def rollout_states(model: Predictor, context: Tensor, actions: Tensor, seed: int = 0) -> Iterator[tuple[Any, Tensor]]:
    """State and frame (B, 3, H, W) in [-1, 1] after each step. The cost of a step never grows.

    context: (B, C, 3, H, W) in [-1, 1]; actions: (B, C-1+N, action_dim), of which the first C-1 lie in the context.
    seed: of what a model samples, which is the same for every clip: a clip's frames depend on nothing but its own
    context and actions and on the seed.
    """
    for state, frame in unroll(model, context, actions, torch.Generator().manual_seed(seed)):
        yield state, frame.clamp(-1, 1)


def rollout_frames(model: Predictor, context: Tensor, actions: Tensor, seed: int = 0) -> Iterator[Tensor]:
    """The frames alone; arguments as for `rollout_states`."""
    for _, frame in rollout_states(model, context, actions, seed):
        yield frame


def rollout(model: Predictor, context: Tensor, actions: Tensor, seed: int = 0) -> Tensor:
    """All N predicted frames, (B, N, 3, H, W) in [-1, 1]; arguments as for `rollout_states`."""
    return torch.stack(list(rollout_frames(model, context, actions, seed)), dim=1)


def rollout_uint8(model: Predictor, context: Tensor, actions: Tensor, seed: int = 0) -> Tensor:
    """The same from and to uint8, on the model's device: (B, C, 3, H, W) → (B, N, 3, H, W)."""
    device = device_of(model)
    signed, actions = to_signed(context.to(device)), actions.to(device)
    return torch.stack([to_uint8(frame) for frame in rollout_frames(model, signed, actions, seed)], dim=1)


class Session:
    """One rollout a step at a time, from and to uint8 as a viewer has it; `reset` begins it anew."""

    def __init__(self, model: Predictor, seed: int = 0) -> None:
        self.model, self._seed, self._device = model, seed, device_of(model)

    @torch.no_grad()
    def reset(self, images: Tensor, actions: Tensor) -> None:
        """images: uint8 (B, C, 3, H, W), C = `model.context_frames`; actions: (B, C-1, action_dim)."""
        self._generator = torch.Generator().manual_seed(self._seed)
        signed = to_signed(images.to(self._device))
        self._state = self.model.init_state(signed, actions.to(self._device), self._generator)

    @torch.no_grad()
    def step(self, action: Tensor) -> Tensor:
        """action (B, action_dim) → the next frame, uint8 (B, 3, H, W), on the model's device."""
        self._state, frame = self.model.step(self._state, action.to(self._device), self._generator)
        return to_uint8(frame)


def device_of(model: Predictor) -> torch.device:
    """Where a model's weights are; the processor without any."""
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))
