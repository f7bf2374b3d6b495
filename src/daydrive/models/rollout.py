"""The only autoregressive loop: from a few real frames and the driver's actions, the frames to come."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from daydrive.models import DreamState, Motion, WorldModel
from daydrive.types import to_signed, to_uint8


@torch.no_grad()
def dream_states(model: WorldModel, context: Tensor, actions: Tensor) -> Iterator[tuple[DreamState, Motion]]:
    """Dream one step after the other: what the dream knows then, and how the decoder came there from the picture
    before. The cost of a step never grows.

    context: (B, C, 3, H, W) in [-1, 1]; actions: (B, C-1+N, action_dim), of which the first C-1 lie in the context.
    """
    first = context.shape[1] - 1
    state = model.begin(context, actions[:, :first])
    for t in range(first, actions.shape[1]):
        state, motion = model.explain(state, actions[:, t])
        yield state, motion


def dream_frames(model: WorldModel, context: Tensor, actions: Tensor) -> Iterator[Tensor]:
    """The frames alone, each (B, 3, H, W) in [-1, 1]; arguments as for `dream_states`."""
    for state, _ in dream_states(model, context, actions):
        yield state.picture.clamp(-1, 1)


def rollout(model: WorldModel, context: Tensor, actions: Tensor) -> Tensor:
    """All N dreamed frames, (B, N, 3, H, W) in [-1, 1]; arguments as for `dream_states`."""
    return torch.stack(list(dream_frames(model, context, actions)), dim=1)


def rollout_uint8(model: WorldModel, context: Tensor, actions: Tensor) -> Tensor:
    """The same from and to uint8, on the model's device: (B, C, 3, H, W) → (B, N, 3, H, W)."""
    device = next(model.parameters()).device
    signed = to_signed(context.to(device))
    actions = actions.to(device)
    return torch.stack([to_uint8(frame) for frame in dream_frames(model, signed, actions)], dim=1)
