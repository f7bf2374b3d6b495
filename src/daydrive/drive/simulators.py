"""What can be driven: a world model or the road simulator, behind one interface with states that can be restored."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.drive.moments import Moment
from daydrive.envs.road import RoadEnv
from daydrive.models import Predictor
from daydrive.models.rollout import device_of
from daydrive.types import Image, to_signed, to_uint8

Action = npt.NDArray[np.float32]
"""(4,), see `daydrive.types.ACTION_NAMES`."""


class Simulator(Protocol):
    """Predicts or simulates one frame per action.

    From an equal state the same actions give the same frames. States are never modified by later steps.
    """

    def reset(self, moment: Moment, seed: int) -> None:
        """Start from a moment. seed: for models that sample."""

    def step(self, action: Action) -> Image:
        """The next frame, uint8 (H, W, 3)."""

    def reseed(self, seed: int) -> None:
        """Draw all further random numbers from this seed."""

    def get_state(self) -> Any: ...

    def set_state(self, state: Any) -> None: ...

    @property
    def speed(self) -> float | None:
        """m/s, negative in reverse; None if unknown."""

    @property
    def ended(self) -> bool:
        """Whether the simulation cannot continue; further steps repeat the last frame."""


class ModelState(NamedTuple):
    """The model's state and the state of the random numbers it draws."""

    rollout: Any
    random: Tensor


class ModelSimulator:
    """A model of any architecture."""

    speed, ended = None, False

    def __init__(self, model: Predictor) -> None:
        self.model, self._device = model, device_of(model)
        self._generator = torch.Generator()

    @torch.no_grad()
    def reset(self, moment: Moment, seed: int) -> None:
        """Start from the newest `context_frames` of the moment's frames."""
        self.reseed(seed)
        skipped = len(moment.images) - self.model.context_frames
        images = to_signed(moment.images[None, skipped:].to(self._device))
        actions = moment.actions[None, skipped:].to(self._device)
        self._rollout = self.model.init_state(images, actions, self._generator)

    @torch.no_grad()
    def step(self, action: Action) -> Image:
        batch = torch.from_numpy(action)[None].to(self._device)
        self._rollout, frame = self.model.step(self._rollout, batch, self._generator)
        return np.ascontiguousarray(to_uint8(frame)[0].permute(1, 2, 0).cpu().numpy())

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def get_state(self) -> ModelState:
        return ModelState(self._rollout, self._generator.get_state())

    def set_state(self, state: ModelState) -> None:
        self._rollout = state.rollout
        self._generator.set_state(state.random)


class RoadSimulator:
    """The road simulator, which holds each action for `frame_skip` of its steps."""

    def __init__(self, image_size: tuple[int, int], frame_skip: int = 1) -> None:
        self._env, self._skip, self.ended = RoadEnv(image_size), frame_skip, False

    def reset(self, moment: Moment, seed: int) -> None:
        assert moment.road_state is not None, "the moment is not one of the road simulator"
        self.set_state((moment.road_state, False))

    def step(self, action: Action) -> Image:
        self.advance(action)
        return self.observe()

    def observe(self) -> Image:
        return self._env.observe()

    def advance(self, action: Action) -> None:
        """As `step`, without rendering."""
        for _ in range(self._skip):
            if not self.ended:
                _, self.ended, _ = self._env.advance(action)

    def reseed(self, seed: int) -> None:
        """Its traffic is part of its state."""

    def get_state(self) -> tuple[dict[str, Any], bool]:
        return self._env.get_state(), self.ended

    def set_state(self, state: tuple[dict[str, Any], bool]) -> None:
        env_state, self.ended = state
        self._env.set_state(env_state)

    @property
    def speed(self) -> float:
        return self._env.speed
