"""Scripted drivers: a lane keeper whose skill can be reduced, random actions, and going straight."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from daydrive.decisions.closed_loop import Action, Observation, Task, controls
from daydrive.envs.world_model.readout import FRAMES, Readout

OFFSET_GAIN, HEADING_GAIN, SPEED_GAIN = 0.06, 0.55, 2.0
"""Curvature per metre beside the lane's middle (1/m²) and per rad off its direction (1/m) at 8 m/s; acceleration per
m/s of missing speed (1/s)."""

REFERENCE_SPEED = 8.0
NOISE_SECONDS = 0.5
"""Correlation time of the steering noise."""

Readings = Mapping[str, float]
"""`lane_offset` (m), `heading_error` (rad) and `speed` (m/s)."""

Read = Callable[[Observation], Readings]


@dataclass(frozen=True)
class Skill:
    """How a lane keeper differs from a good one.

    noise: standard deviation of the added steering; lag: decisions by which its actions are late; gain: factor of its
    steering; bias: m to the right of the lane's middle that it aims for.
    """

    noise: float = 0.0
    lag: int = 0
    gain: float = 1.0
    bias: float = 0.0


class LaneKeeper:
    """Keeps the lane and the speed by proportional control on what `read` returns: the truth by default.

    With `readout`, it sees nothing but images.
    """

    def __init__(self, skill: Skill = Skill(), readout: Readout | None = None) -> None:
        self.skill, self.frames = skill, 0 if readout is None else FRAMES
        self._read: Read = (lambda observation: observation.info) if readout is None else ReadImages(readout)

    def reset(self, task: Task) -> None:
        self._task, self._random = task, np.random.default_rng(task.seed)
        self._noise = 0.0
        self._delayed: deque[Action] = deque(maxlen=self.skill.lag + 1)

    def act(self, observation: Observation) -> Action:
        action = self.decide(self._read(observation))
        self._delayed.append(action)
        return self._delayed[0]

    def decide(self, readings: Readings) -> Action:
        """The action without its lag."""
        skill, target, speed = self.skill, self._task.target_speed, max(readings["speed"], 0.0)
        slower = min(REFERENCE_SPEED / max(target, 1.0), 2.0)
        curvature = -OFFSET_GAIN * slower**2 * (readings["lane_offset"] - skill.bias)
        curvature -= HEADING_GAIN * slower * readings["heading_error"]
        retained = math.exp(-1 / (NOISE_SECONDS * self._task.hz))
        self._noise = retained * self._noise + math.sqrt(1 - retained**2) * skill.noise * self._random.normal()
        action = controls(skill.gain * curvature, SPEED_GAIN * (target - speed), speed)
        action[0] = np.clip(action[0] + self._noise, -1, 1)
        return action


class ReadImages:
    """Reads the newest images of an observation."""

    def __init__(self, readout: Readout) -> None:
        self._readout, self._device = readout, readout.network.offset.device

    @torch.no_grad()
    def __call__(self, observation: Observation) -> Readings:
        values = self._readout(observation.images[None, -FRAMES:].to(self._device))
        return {name: value.item() for name, value in values.items()}


class StraightDriver:
    """Keeps the true speed and never steers."""

    frames = 0

    def reset(self, task: Task) -> None:
        self._target = task.target_speed

    def act(self, observation: Observation) -> Action:
        speed = observation.info["speed"]
        return controls(0.0, SPEED_GAIN * (self._target - speed), speed)


class RandomDriver:
    """Draws steering, throttle and brake anew every half second, from all of their values."""

    frames = 0

    def reset(self, task: Task) -> None:
        self._random, self._every, self._count = np.random.default_rng(task.seed), max(1, round(task.hz / 2)), 0

    def act(self, observation: Observation) -> Action:
        if self._count % self._every == 0:
            steering, throttle, brake = self._random.uniform([-1, 0, 0], 1)
            self._action = np.array([steering, throttle, brake, 1], np.float32)
        self._count += 1
        return self._action
