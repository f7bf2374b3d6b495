"""A scripted driver with human variety, for drives whose commands are worth learning from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from daydrive.envs.road.env import HZ, RoadEnv
from daydrive.envs.road.road import LANE_CENTRE
from daydrive.envs.road.vehicle import WHEELBASE, full_lock

DT = 1 / HZ


@dataclass(frozen=True)
class Style:
    """cruise (m/s); lateral (m/s²) accepted in bends; wander (m) in the lane; tremor of the steering; rates (1/s)."""

    cruise: float
    lateral: float
    wander: float
    period: float
    tremor: float
    rates: dict[str, float]


def draw_style(rng: np.random.Generator) -> Style:
    """A driver's habits."""
    lively = rng.uniform(0.6, 1.5)
    rates = {"brake": 0.028, "stand": 0.003, "swerve": 0.130, "leave": 0.020, "reverse": 0.008, "overtake": 0.018}
    return Style(
        cruise=rng.uniform(10, 20),
        lateral=rng.uniform(3.0, 5.6),
        wander=rng.uniform(0.4, 1.1),
        period=rng.uniform(4.0, 9.0),
        tremor=rng.uniform(0.08, 0.22),
        rates={name: rate * lively * rng.uniform(0.5, 1.5) for name, rate in rates.items()},
    )


class Driver:
    """Drives from the privileged state in `info`: `act(info)` gives the next action, float32 (4,).

    It wanders in its lane, steers with a tremor, brakes for bends and for others, and now and then overtakes,
    brakes hard, stands still, swerves, leaves the road and comes back, or reverses.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 71])
        self.style = draw_style(self.rng)
        self.phase = self.rng.uniform(0, 2 * math.pi, 3)
        self.time = 0.0
        self.task, self.left, self.side = "cruise", 0.0, 1.0
        self.strength = 0.0
        self.backed = False
        self.tremor = self.drift = 0.0
        self.target = LANE_CENTRE
        self.steering = self.throttle = self.brake = 0.0

    def act(self, info: dict[str, Any]) -> np.ndarray:
        """The action for the moment that `info` describes: steering, throttle, brake, gear."""
        self.time += DT
        self.left -= DT
        self._choose_task(info)
        gear = -1.0 if self.task == "reverse" and self.backed else 1.0
        steering = self._steer(info)
        acceleration = self._pace(info)
        throttle = min(max((acceleration + 0.2 + 0.0009 * info["speed"] ** 2) / self._pull(info["speed"]), 0.0), 1.0)
        brake = min(max(-acceleration / 8.0, 0.0), 1.0)
        if acceleration < -0.5:
            throttle = 0.0
        elif acceleration > -0.3:
            brake = 0.0
        if gear < 0:
            throttle, brake = (0.55, 0.0) if self.left > 0.8 else (0.0, 0.5)
        self.steering += (steering - self.steering) * 0.75
        self.throttle += (throttle - self.throttle) * 0.5
        self.brake += (brake - self.brake) * 0.65
        action = np.array([self.steering, self.throttle, self.brake, gear], np.float32)
        action[:3][np.abs(action[:3]) < 0.004] = 0
        return np.clip(action, [-1, 0, 0, -1], 1).astype(np.float32)

    @staticmethod
    def _pull(speed: float) -> float:
        return 4.2 / (1 + (speed / 18) ** 2)

    def _begin(self, task: str, seconds: float) -> None:
        self.task, self.left = task, seconds
        self.side = 1.0 if self.rng.random() < 0.5 else -1.0
        self.strength = float(self.rng.random())
        self.backed = False

    def _choose_task(self, info: dict[str, Any]) -> None:
        if self.task == "stand" and abs(info["speed"]) > 0.1:
            self.left = max(self.left, 1.0 + 3.0 * self.strength)
        if self.task == "reverse" and not self.backed:
            self.left = 2.0 + 3.0 * self.strength
            self.backed = abs(info["speed"]) < 0.05
        if self.task == "overtake":
            safe = info["oncoming_gap"] > 3.0 * (info["speed"] + 22)
            passed = info["beside_gap"] > 12
            if not safe and passed:
                self.left = 0.0
            elif not passed:
                self.left = max(self.left, 0.3)
        if self.task != "cruise":
            if self.left <= 0:
                self.task = "cruise"
                self.left = 0.0
            return
        if info["lead_gap"] < 9 + info["speed"] and info["lead_speed"] < self.style.cruise - 3:
            if info["lead_speed"] >= 0 and self._left_is_free(info) and self.rng.random() < 0.6 * DT:
                self._begin("overtake", 3.0)
            return
        draw = float(self.rng.random())
        for name, rate in self.style.rates.items():
            if draw < rate * DT:
                self._start(name, info)
                return
            draw -= rate * DT

    def _left_is_free(self, info: dict[str, Any]) -> bool:
        return info["oncoming_gap"] > 6.0 * (info["speed"] + 18) or info["oncoming_gap"] >= 300

    def _start(self, name: str, info: dict[str, Any]) -> None:
        quiet = abs(info["lateral"] - LANE_CENTRE) < 1.5 and abs(info["heading_error"]) < 0.2
        if name == "overtake" and not self._left_is_free(info):
            return
        if name == "swerve" and (info["oncoming_gap"] < 50 or info["beside_gap"] < 8):
            return
        if not quiet or (name == "reverse" and info["beside_gap"] < 25):
            return
        low, high = {
            "brake": (0.6, 1.8), "stand": (1.5, 3.0), "swerve": (0.5, 1.1),
            "leave": (1.5, 3.5), "reverse": (2.0, 4.0), "overtake": (3.0, 6.0),
        }[name]  # fmt: skip
        self._begin(name, float(self.rng.uniform(low, high)))

    def _wanted_lateral(self) -> float:
        """Offset from the centreline (m) the driver heads for."""
        self.drift += -self.drift * DT / 3 + float(self.rng.normal(0, 0.35)) * self.style.wander * math.sqrt(DT)
        sway = math.sin(2 * math.pi * self.time / self.style.period + self.phase[0])
        sway += 0.6 * math.sin(2 * math.pi * self.time / (2.7 * self.style.period) + self.phase[1])
        goal = LANE_CENTRE
        if self.task == "overtake":
            goal = -LANE_CENTRE
        elif self.task == "leave":
            goal = 4.8 + 1.8 * self.strength
        self.target += min(max(goal - self.target, -0.28), 0.28)
        return self.target + self.style.wander * 0.6 * sway + self.drift

    def _steer(self, info: dict[str, Any]) -> float:
        speed = info["speed"]
        v = math.copysign(max(abs(speed), 4.0), speed if abs(speed) > 0.2 else 1.0)
        wanted = min(max(-0.55 * (info["lateral"] - self._wanted_lateral()) / v, -0.42), 0.42)
        curvature = info["curvature_ahead"] + 2.1 * (wanted - info["heading_error"]) / v
        steering = math.atan(WHEELBASE * curvature) / full_lock(speed)
        self.tremor += -self.tremor * DT / 0.45 + self.style.tremor * math.sqrt(2 * DT / 0.45) * float(
            self.rng.normal()
        )
        steering += self.tremor
        if self.task == "swerve":
            steering += self.side * (0.35 + 0.5 * self.strength)
        elif self.task == "reverse" and self.backed:
            steering += self.side * 0.5 * self.strength
        elif self.task == "stand" and abs(speed) < 0.1:
            steering = 0.3 * math.sin(self.time * 1.3 + self.phase[2])
        return min(max(steering, -1.0), 1.0)

    def _pace(self, info: dict[str, Any]) -> float:
        """Wanted acceleration, m/s²."""
        speed = info["speed"]
        wave = 1 + 0.16 * math.sin(2 * math.pi * self.time / 17 + self.phase[2])
        wanted = min(self.style.cruise * wave, math.sqrt(self.style.lateral / max(info["bend_ahead"], 1e-4)))
        if info["off_road"] or self.task == "leave":
            wanted = min(wanted, 14.0)
        acceleration = min(max(0.7 * (wanted - speed), -4.0), 2.6)
        closing = max(speed - info["lead_speed"], 0.0)
        room = info["lead_gap"] - 4.0 - 0.7 * speed
        if info["lead_gap"] < 150 and closing > 0:
            acceleration = min(acceleration, -closing * closing / (2 * max(info["lead_gap"] - 4.0, 0.5)) + 0.4)
        if room < 0:
            acceleration = min(acceleration, max(0.5 * room, -7.0))
        if self.task == "brake":
            acceleration = -3.0 - 4.0 * self.strength
        elif self.task == "stand" or (self.task == "reverse" and not self.backed):
            acceleration = -2.0 - 2.5 * self.strength
        return acceleration


def drive(
    seed: int, frames: int, image_size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """One scripted drive: its own road, weather, traffic and driver, all from the seed.

    Yields (frame uint8 (H, W, 3), the action float32 (4,) applied after it, the info of that frame).
    Ends early where the road ends, after 11 km.
    """
    env, driver = RoadEnv(image_size), Driver(seed)
    frame, info = env.reset(seed=seed)
    ended = False
    for _ in range(frames):
        if ended:
            return
        action = driver.act(info)
        yield frame, action, info
        frame, _, ended, _, info = env.step(action)
