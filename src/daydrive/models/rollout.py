"""Rollouts: predict future frames with any model from context frames and actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from daydrive.models import Predictor
from daydrive.models.interface import unroll
from daydrive.models.noise import ClipGenerators
from daydrive.types import to_signed, to_uint8

STANDING_CHANGE = 1.0
"""Mean absolute difference of consecutive frames, of 255, below which a car of unknown speed stands."""

Seed = int | Sequence[int] | None
"""Of the random numbers of a model that samples: the same for every clip of a batch; one per clip; or None for no
randomness, the most likely values."""


@torch.no_grad()
def rollout_states(model: Predictor, context: Tensor, actions: Tensor, seed: Seed = 0) -> Iterator[tuple[Any, Tensor]]:
    """Yield state and frame (B, 3, H, W) in [-1, 1] after each step; the cost of a step is constant.

    context: (B, C, 3, H, W) in [-1, 1]; actions: (B, C-1+N, action_dim), of which the first C-1 lie within the context.
    The frames of a clip depend only on its context, its actions and its seed.
    """
    for state, frame in unroll(model, context, actions, _generator(seed)):
        yield state, frame.clamp(-1, 1)


def rollout_frames(model: Predictor, context: Tensor, actions: Tensor, seed: Seed = 0) -> Iterator[Tensor]:
    """Yield the frames only; arguments as for `rollout_states`."""
    for _, frame in rollout_states(model, context, actions, seed):
        yield frame


def rollout(model: Predictor, context: Tensor, actions: Tensor, seed: Seed = 0) -> Tensor:
    """The N predicted frames, (B, N, 3, H, W) in [-1, 1]; arguments as for `rollout_states`."""
    return torch.stack(list(rollout_frames(model, context, actions, seed)), dim=1)


def rollout_uint8(model: Predictor, context: Tensor, actions: Tensor, seed: Seed = 0) -> Tensor:
    """`rollout` with uint8 images: context (B, C, 3, H, W) → frames (B, N, 3, H, W) on the model's device."""
    device = device_of(model)
    signed, actions = to_signed(context.to(device)), actions.to(device)
    return torch.stack([to_uint8(frame) for frame in rollout_frames(model, signed, actions, seed)], dim=1)


class Session:
    """An interactive rollout, one step at a time, with uint8 images; `reset` starts a new one."""

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
    """The device of a model's weights; the CPU if it has none."""
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def _generator(seed: Seed) -> torch.Generator | None:
    if seed is None:
        return None
    if isinstance(seed, int):
        return torch.Generator().manual_seed(seed)
    return ClipGenerators([torch.Generator().manual_seed(each) for each in seed])
