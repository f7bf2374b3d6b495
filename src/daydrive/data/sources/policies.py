"""Seeded policies, in daydrive's action space, that drive a gymnasium environment during recording."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Action = npt.NDArray[np.float32]
Policy = Callable[[], Action]


class OrnsteinUhlenbeck:
    """Ornstein-Uhlenbeck noise with zero mean, unit variance and a time constant of `seconds`."""

    def __init__(self, rng: np.random.Generator, seconds: float, hz: float) -> None:
        self.rng, self.decay = rng, math.exp(-1.0 / (seconds * hz))
        self.value = float(rng.standard_normal())

    def __call__(self) -> float:
        noise = math.sqrt(1.0 - self.decay**2) * float(self.rng.standard_normal())
        self.value = self.decay * self.value + noise
        return self.value


def random_policy(rng: np.random.Generator, hz: float) -> Policy:
    """Smooth random forward driving: steering around 0, mostly throttle, occasional braking."""
    steering, pedal = OrnsteinUhlenbeck(rng, 0.8, hz), OrnsteinUhlenbeck(rng, 1.5, hz)

    def act() -> Action:
        push = 0.4 + 0.5 * pedal()
        action = [np.clip(0.5 * steering(), -1, 1), np.clip(push, 0, 1), np.clip(-push, 0, 1), 1.0]
        return np.array(action, dtype=np.float32)

    return act


def car_racing_policy(env: Any, rng: np.random.Generator, hz: float) -> Policy:
    """Follows the track of CarRacing at a speed suited to the next curve, with random lateral offsets and swerves, so
    that the drives cover a range of steering."""
    inner = env.unwrapped
    offset, speed_noise, swerve = (
        OrnsteinUhlenbeck(rng, 3.0, hz),
        OrnsteinUhlenbeck(rng, 4.0, hz),
        OrnsteinUhlenbeck(rng, 0.5, hz),
    )
    track = np.array([point[2:4] for point in inner.track])
    ahead, middle = 6, 2.0

    def act() -> Action:
        position = np.array(inner.car.hull.position)
        nearest = int(np.argmin(((track - position) ** 2).sum(axis=1)))
        count = len(track)
        target, before = track[(nearest + ahead) % count], track[(nearest + ahead - 1) % count]
        along = (target - before) / np.linalg.norm(target - before)
        aim = target + middle * offset() * np.array([along[1], -along[0]]) - position
        error = _wrapped(math.atan2(-aim[0], aim[1]) - inner.car.hull.angle)
        far = track[(nearest + 3 * ahead) % count] - target
        curve = abs(_wrapped(math.atan2(-far[0], far[1]) - math.atan2(-along[0], along[1])))
        target_speed = np.clip(42.0 + 8.0 * speed_noise() - 40.0 * curve, 12.0, 60.0)
        speed = float(np.linalg.norm(inner.car.hull.linearVelocity))
        steering = np.clip(-0.7 * error + 0.1 * swerve(), -1, 1)
        throttle = np.clip(0.06 * (target_speed - speed), 0, 1) * (1.0 - 0.5 * abs(steering))
        brake = np.clip(0.03 * (speed - target_speed - 5.0), 0, 0.8)
        return np.array([steering, throttle, brake, 1.0], dtype=np.float32)

    return act


def _wrapped(angle: float) -> float:
    return math.remainder(angle, 2.0 * math.pi)
