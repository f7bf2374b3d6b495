"""A moving average of the weights, which dreams better than any single step's (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """decay: share of the average that a step keeps; less in the first steps, so that the start is soon forgotten."""

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
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights, while this lasts."""
        kept = {name: local(p.detach()).clone() for name, p in model.named_parameters()}
        with torch.no_grad():
            for name, p in model.named_parameters():
                local(p).copy_(local(self.average[name]))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in model.named_parameters():
                    local(p).copy_(kept[name])


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that is shared out, or the tensor."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part
