"""Several rollouts of one model in a batch, each with its own beginning and its own random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from daydrive.errors import UserError
from daydrive.models import Predictor
from daydrive.models.interface import State
from daydrive.models.noise import ClipGenerators
from daydrive.models.rollout import device_of
from daydrive.models.states import clip_of, concatenate, map_tensors, replace_clips
from daydrive.types import to_signed, to_uint8


class RolloutState(NamedTuple):
    """The complete state of one rollout, on the CPU: of the model, as a batch of one, and of its random numbers."""

    model: State
    generator: Tensor


class Rollouts:
    """`count` rollouts with uint8 images. Those of one index are the same in a batch of any size, except for rounding.

    Time and memory of a step are constant. All of them have to be started before the first step.
    """

    def __init__(self, model: Predictor, count: int) -> None:
        self.model, self.count, self.device = model, count, device_of(model)
        self._generators = [torch.Generator() for _ in range(count)]
        self._generator = _combined(self._generators)
        self._unused = self._generator.get_state()
        self._state: State = None

    @property
    def started(self) -> bool:
        return self._state is not None

    @torch.no_grad()
    def start(self, which: Sequence[int], images: Tensor, actions: Tensor, seeds: Sequence[int]) -> None:
        """Start rollouts anew. which: their indices, ascending; images: uint8 (len(which), C, 3, H, W), C =
        `model.context_frames`; actions: (len(which), C-1, 4); seeds: of their random numbers."""
        generators = [self._generators[k].manual_seed(seed) for k, seed in zip(which, seeds, strict=True)]
        signed, actions = to_signed(images.to(self.device)), actions.to(self.device)
        state = self.model.init_state(signed, actions, _combined(generators))
        self._replace(which, state)

    @torch.no_grad()
    def step(self, actions: Tensor) -> Tensor:
        """actions (count, 4) on the model's device → the next frames, uint8 (count, 3, H, W)."""
        self._state, frames = self.model.step(self._state, actions, self._generator)
        if self.count > 1 and not self._generator.get_state().equal(self._unused):
            raise UserError(
                f"the architecture {type(self.model).__name__} draws the same random numbers for all clips, so that "
                "their rollouts cannot start at different times; it has to draw them by models.noise.sample_noise"
            )
        return to_uint8(frames)

    def get_state(self, index: int) -> RolloutState:
        """A copy of the state of one rollout."""
        state = map_tensors(Tensor.cpu, clip_of(self._state, index))
        return RolloutState(state, self._generators[index].get_state())

    def set_state(self, which: Sequence[int], states: Sequence[RolloutState]) -> None:
        """Continue rollouts from states of `get_state`. which: their indices, ascending.

        Raises TypeError, ValueError or RuntimeError for states of another model.
        """
        for state in states:
            torch.Generator().set_state(state.generator)  # before anything is changed
        self._replace(which, concatenate([state.model for state in states]))
        for index, state in zip(which, states, strict=True):
            self._generators[index].set_state(state.generator)

    def _replace(self, which: Sequence[int], state: State) -> None:
        if self._state is None:
            assert len(which) == self.count
            self._state = state
        else:
            self._state = replace_clips(self._state, which, state)


def _combined(generators: Sequence[torch.Generator]) -> torch.Generator:
    return generators[0] if len(generators) == 1 else ClipGenerators(generators)
