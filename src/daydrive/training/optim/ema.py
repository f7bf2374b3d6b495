"""Exponential moving average of the weights, which predicts better than the weights of any single step (Polyak &
Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """decay: weight of the old average in an update; lower in the first steps, so that the initial weights are
    forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages = [local(tensor) for tensor in self.average.values()]
        torch._foreach_lerp_(averages, [local(p.detach()) for p in model.parameters()], 1 - decay)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged weights while this context lasts."""
        trained = {name: local(p.detach()).clone() for name, p in model.named_parameters()}
        with torch.no_grad():
            for name, p in model.named_parameters():
                local(p).copy_(local(self.average[name]))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in model.named_parameters():
                    local(p).copy_(trained[name])


def local(tensor: Tensor) -> Tensor:
    """The local shard of a DTensor, or the tensor itself."""
    shard: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return shard
