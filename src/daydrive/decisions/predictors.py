"""What a planner plans in: a world model, or the true simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from daydrive.decisions.closed_loop import Observation
from daydrive.envs.road import RoadEnv
from daydrive.envs.world_model.readout import FRAMES, Readout
from daydrive.models import Predictor
from daydrive.models.rollout import device_of
from daydrive.models.states import map_tensors
from daydrive.types import to_signed, to_uint8

TRUE_READINGS = ("lane_offset", "heading_error", "speed", "curvature", "off_road")


class Outcome(NamedTuple):
    """frames, readings: as in `daydrive.decisions.costs.Prediction`."""

    frames: Tensor | None
    readings: dict[str, Tensor]


Roll = Callable[[Tensor, Sequence[int]], Outcome]
"""Actions (N, horizon, 4) and the steps to look at, from 1 → what they lead to."""


class Dynamics(Protocol):
    """frames: number of newest frames that it starts from, 0 for none. device: where its actions and outcomes are."""

    frames: int
    device: torch.device

    def start(self, observation: Observation) -> Roll:
        """From an observation, any number of candidates can be rolled out."""


class ModelDynamics:
    """A world model of any architecture, whose frames are read by a readout."""

    def __init__(self, model: Predictor, readout: Readout | None, bfloat16: bool = False) -> None:
        """bfloat16: whether the model computes in it where that is faster."""
        self.model, self.device = model, device_of(model)
        self._readout = None if readout is None else readout.to(self.device)
        self._bfloat16 = bfloat16
        self.frames = max(model.context_frames, FRAMES)

    def start(self, observation: Observation) -> Roll:
        return self.start_batch(observation.images[None], observation.actions[None])

    @torch.no_grad()
    def start_batch(self, images: Tensor, actions: Tensor) -> Roll:
        """For B observations at once, uint8 (B, F, 3, H, W) and (B, F-1, 4), F = `frames`: N = B times the candidates,
        those of an observation in succession."""
        skipped = self.frames - self.model.context_frames
        images, actions = images.to(self.device), actions.to(self.device)
        with self._precision():
            first = self.model.init_state(to_signed(images[:, skipped:]), actions[:, skipped:])
        newest = images[:, -1]

        @torch.no_grad()
        def roll(actions: Tensor, steps: Sequence[int]) -> Outcome:
            each = len(actions) // len(newest)
            state = map_tensors(lambda tensor: tensor.repeat_interleave(each, dim=0), first)
            before = newest.repeat_interleave(each, dim=0)
            frames, pairs = list[Tensor](), list[Tensor]()
            for step in range(1, max(steps) + 1):
                with self._precision():
                    state, image = self.model.step(state, actions[:, step - 1])
                frame = to_uint8(image)
                if step in steps:
                    frames.append(frame)
                    pairs.append(torch.stack([before, frame], dim=1))
                before = frame
            return Outcome(torch.stack(frames, dim=1), self._read(torch.stack(pairs, dim=1)))

        return roll

    def _read(self, pairs: Tensor) -> dict[str, Tensor]:
        """Pairs of frames (N, R, 2, 3, H, W) → readings (N, R)."""
        if self._readout is None:
            return {}
        return {name: value.view(pairs.shape[:2]) for name, value in self._readout(pairs.flatten(0, 1)).items()}

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16)


class SimulatorDynamics:
    """The true simulator, from copies of its state, without rendering: what planning in a perfect model gives."""

    frames, device = 0, torch.device("cpu")

    def __init__(self, frame_skip: int = 1) -> None:
        """frame_skip: steps of the simulator for which an action is held."""
        self._env, self._skip = RoadEnv(), frame_skip

    def start(self, observation: Observation) -> Roll:
        def roll(actions: Tensor, steps: Sequence[int]) -> Outcome:
            infos = [self._infos(observation.state, each, steps) for each in actions.numpy()]
            return Outcome(
                None, {name: torch.tensor([[float(i[name]) for i in row] for row in infos]) for name in TRUE_READINGS}
            )

        return roll

    def _infos(self, state: dict[str, Any], actions: Any, steps: Sequence[int]) -> list[dict[str, Any]]:
        self._env.set_state(state)
        infos = []
        for step in range(1, max(steps) + 1):
            for _ in range(self._skip):
                self._env.advance(actions[step - 1])
            if step in steps:
                infos.append(self._env.info)
        return infos
