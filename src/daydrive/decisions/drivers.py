"""Scripted drivers: a lane keeper whose skill can be reduced, random actions, and going straight."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from daydrive.decisions.closed_loop import Action, Driver, Observation, Task, cruise
from daydrive.envs.world_model.readout import FRAMES, Readout
from daydrive.errors import UserError, errors_attributed_to
from daydrive.evaluation.adapter import call_function
from daydrive.types import ACTION_HIGH, ACTION_LOW

OFFSET_GAIN, HEADING_GAIN = 0.06, 0.55
"""Curvature per metre beside the lane's middle (1/m²) and per rad off its direction (1/m) at 8 m/s."""

REFERENCE_SPEED = 8.0
MOST_FRAMES = 64
"""That a driver of a user may see."""

NOISE_SECONDS = 0.5
"""Correlation time of the steering noise."""

Readings = Mapping[str, float]
"""`lane_offset` (m), `heading_error` (rad), and `speed` (m/s) if it is known."""

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
    """Keeps the lane by proportional control, and the speed.

    By default it knows the truth. With `readout`, it sees nothing but images, from which it reads where it is in the
    lane; its pedals are then those that hold the target speed on level ground.
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
        skill, target = self.skill, self._task.target_speed
        slower = min(REFERENCE_SPEED / max(target, 1.0), 2.0)
        curvature = -OFFSET_GAIN * slower**2 * (readings["lane_offset"] - skill.bias)
        curvature -= HEADING_GAIN * slower * readings["heading_error"]
        retained = math.exp(-1 / (NOISE_SECONDS * self._task.hz))
        self._noise = retained * self._noise + math.sqrt(1 - retained**2) * skill.noise * self._random.normal()
        action = cruise(target, max(readings.get("speed", target), 0.0), skill.gain * curvature)
        action[0] = np.clip(action[0] + self._noise, -1, 1)
        return action


class ReadImages:
    """Reads the newest images of an observation."""

    def __init__(self, readout: Readout) -> None:
        self._readout, self._device = readout, readout.network.offset.device

    @torch.no_grad()
    def __call__(self, observation: Observation) -> Readings:
        values = self._readout(observation.images[None, -FRAMES:].to(self._device))
        return {name: values[name].item() for name in ("lane_offset", "heading_error")}


class StraightDriver:
    """Keeps the true speed and never steers."""

    frames = 0

    def reset(self, task: Task) -> None:
        self._target = task.target_speed

    def act(self, observation: Observation) -> Action:
        return cruise(self._target, observation.info["speed"])


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


def load_driver(spec: str) -> Driver:
    """The driver that the function given as `FILE.py:NAME` returns.

    Raises UserError if file or function are missing, if the function fails, or if it returns no driver that sees
    images.
    """
    label, _, driver = call_function(spec, "policy")
    missing = [name for name in ("frames", "reset", "act") if not hasattr(driver, name)]
    if missing:
        raise UserError(
            f"{label} returns a {type(driver).__name__} without '{missing[0]}'; a driver has frames, reset and act"
        )
    if isinstance(driver.frames, bool) or not isinstance(driver.frames, int) or not 1 <= driver.frames <= MOST_FRAMES:
        raise UserError(f"{label} has frames {driver.frames!r}; it must be an integer from 1 to {MOST_FRAMES}")
    return CheckedDriver(label, driver)


class CheckedDriver:
    """A driver of a user, whose errors name it."""

    def __init__(self, label: str, driver: Driver) -> None:
        self.frames, self._label, self._driver = driver.frames, label, driver

    def reset(self, task: Task) -> None:
        with errors_attributed_to(self._label):
            self._driver.reset(task)

    def act(self, observation: Observation) -> Action:
        with errors_attributed_to(self._label):
            action = np.asarray(self._driver.act(observation), np.float32)
        if action.shape != (4,) or not np.isfinite(action).all():
            raise UserError(f"{self._label} returns {action.tolist()}, which is not an action of four finite numbers")
        return np.clip(action, ACTION_LOW, ACTION_HIGH)
