"""Random numbers of models that sample: the same for all clips of a batch, or separate for each clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class ClipGenerators(torch.Generator):
    """A generator per clip of a batch, for rollouts that start at different times or with different seeds.

    each: on the CPU, one per clip. Models draw from them by `sample_noise`; as a plain `torch.Generator` it is of no
    use.
    """

    def __new__(cls, each: Sequence[torch.Generator]) -> ClipGenerators:
        return super().__new__(cls)

    def __init__(self, each: Sequence[torch.Generator]) -> None:
        self.each = list(each)


class Distribution(Protocol):
    """`torch.rand` or `torch.randn`."""

    def __call__(self, size: Sequence[int], *, generator: torch.Generator | None) -> Tensor: ...


def step_noise(
    shapes: Sequence[Sequence[int]], generator: torch.Generator | None, device: torch.device, training: bool
) -> list[Tensor] | None:
    """Normal random numbers of these shapes, whose first dimension is 1, for one step of a model, see `sample_noise`;
    without a generator none, or zeros in training, where every weight has to take part."""
    if generator is None:
        return [torch.zeros(*shape, device=device) for shape in shapes] if training else None
    return [sample_noise(torch.randn, shape, generator).to(device) for shape in shapes]


def sample_noise(
    distribution: Distribution, shape: Sequence[int], generator: torch.Generator, clip_dim: int = 0
) -> Tensor:
    """Random numbers on the CPU, of a shape whose dimension `clip_dim` is 1: it stays 1 with one generator for all
    clips, and becomes B with `ClipGenerators`. A clip gets the same numbers either way."""
    assert shape[clip_dim] == 1
    if not isinstance(generator, ClipGenerators):
        return distribution(shape, generator=generator)
    return torch.cat([distribution(shape, generator=each) for each in generator.each], dim=clip_dim)
