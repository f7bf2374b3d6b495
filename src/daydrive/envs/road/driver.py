"""A scripted driver with human-like variation, for drives with informative actions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from daydrive.envs.road.env import HZ, RoadEnv
from daydrive.envs.road.road import LANE_CENTRE
from daydrive.envs.road.vehicle import DRAG, FULL_BRAKE, WHEELBASE, engine_acceleration, full_lock

DT = 1 / HZ


@dataclass(frozen=True)
class Style:
    """Parameters of a driver.

    cruise: speed (m/s). lateral: lateral acceleration accepted in bends (m/s²). drift_amplitude (m), period (s): of
    the drift within the lane. tremor: standard deviation of the steering noise. rates: frequency of each
    manoeuvre (1/s).
    """

    cruise: float
    lateral: float
    drift_amplitude: float
    period: float
    tremor: float
    rates: dict[str, float]


def draw_style(rng: np.random.Generator) -> Style:
    """Sample the parameters of a driver."""
    lively = rng.uniform(0.6, 1.5)
    rates = {"brake": 0.028, "stand": 0.003, "swerve": 0.130, "leave": 0.020, "reverse": 0.008, "overtake": 0.018}
    return Style(
        cruise=rng.uniform(10, 20),
        lateral=rng.uniform(3.0, 5.6),
        drift_amplitude=rng.uniform(0.4, 1.1),
        period=rng.uniform(4.0, 9.0),
        tremor=rng.uniform(0.08, 0.22),
        rates={name: rate * lively * rng.uniform(0.5, 1.5) for name, rate in rates.items()},
    )


class Driver:
    """A driving policy on the privileged state in `info`: `act(info)` returns the next action, float32 (4,).

    It drifts within its lane, steers with noise, slows down for bends and other vehicles, and occasionally overtakes,
    brakes hard, stops, swerves, leaves the road and returns, or reverses.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 71])
        self.style = draw_style(self.rng)
        self.phase = self.rng.uniform(0, 2 * math.pi, 3)
        self.time = 0.0
        self.manoeuvre, self.remaining, self.side = "cruise", 0.0, 1.0
        self.strength = 0.0
        self.reversing = False
        self.tremor = self.drift = 0.0
        self.target = LANE_CENTRE
        self.steering = self.throttle = self.brake = 0.0

    def act(self, info: dict[str, Any]) -> np.ndarray:
        """Return the action for the current state: steering, throttle, brake, gear, float32 (4,)."""
        self.time += DT
        self.remaining -= DT
        self._update_manoeuvre(info)
        gear = -1.0 if self.manoeuvre == "reverse" and self.reversing else 1.0
        steering = self._steer(info)
        acceleration = self._target_acceleration(info)
        speed = info["speed"]
        throttle = min(max((acceleration + 0.2 + DRAG * speed**2) / engine_acceleration(speed), 0.0), 1.0)
        brake = min(max(-acceleration / FULL_BRAKE, 0.0), 1.0)
        if acceleration < -0.5:
            throttle = 0.0
        elif acceleration > -0.3:
            brake = 0.0
        if gear < 0:
            throttle, brake = (0.55, 0.0) if self.remaining > 0.8 else (0.0, 0.5)
        self.steering += (steering - self.steering) * 0.75
        self.throttle += (throttle - self.throttle) * 0.5
        self.brake += (brake - self.brake) * 0.65
        action = np.array([self.steering, self.throttle, self.brake, gear], np.float32)
        action[:3][np.abs(action[:3]) < 0.004] = 0
        return np.clip(action, [-1, 0, 0, -1], 1).astype(np.float32)

    def _start_manoeuvre(self, task: str, seconds: float) -> None:
        self.manoeuvre, self.remaining = task, seconds
        self.side = 1.0 if self.rng.random() < 0.5 else -1.0
        self.strength = float(self.rng.random())
        self.reversing = False

    def _update_manoeuvre(self, info: dict[str, Any]) -> None:
        if self.manoeuvre == "stand" and abs(info["speed"]) > 0.1:
            self.remaining = max(self.remaining, 1.0 + 3.0 * self.strength)
        if self.manoeuvre == "reverse" and not self.reversing:
            self.remaining = 2.0 + 3.0 * self.strength
            self.reversing = abs(info["speed"]) < 0.05
        if self.manoeuvre == "overtake":
            safe = info["oncoming_gap"] > 3.0 * (info["speed"] + 22)
            passed = info["beside_gap"] > 12
            if not safe and passed:
                self.remaining = 0.0
            elif not passed:
                self.remaining = max(self.remaining, 0.3)
        if self.manoeuvre != "cruise":
            if self.remaining <= 0:
                self.manoeuvre = "cruise"
                self.remaining = 0.0
            return
        if info["lead_gap"] < 9 + info["speed"] and info["lead_speed"] < self.style.cruise - 3:
            if info["lead_speed"] >= 0 and self._left_lane_is_free(info) and self.rng.random() < 0.6 * DT:
                self._start_manoeuvre("overtake", 3.0)
            return
        draw = float(self.rng.random())
        for name, rate in self.style.rates.items():
            if draw < rate * DT:
                self._try_manoeuvre(name, info)
                return
            draw -= rate * DT

    def _left_lane_is_free(self, info: dict[str, Any]) -> bool:
        return info["oncoming_gap"] > 6.0 * (info["speed"] + 18) or info["oncoming_gap"] >= 300

    def _try_manoeuvre(self, name: str, info: dict[str, Any]) -> None:
        settled = abs(info["lateral"] - LANE_CENTRE) < 1.5 and abs(info["heading_error"]) < 0.2
        if name == "overtake" and not self._left_lane_is_free(info):
            return
        if name == "swerve" and (info["oncoming_gap"] < 50 or info["beside_gap"] < 8):
            return
        if not settled or (name == "reverse" and info["beside_gap"] < 25):
            return
        low, high = {
            "brake": (0.6, 1.8), "stand": (1.5, 3.0), "swerve": (0.5, 1.1),
            "leave": (1.5, 3.5), "reverse": (2.0, 4.0), "overtake": (3.0, 6.0),
        }[name]  # fmt: skip
        self._start_manoeuvre(name, float(self.rng.uniform(low, high)))

    def _target_lateral(self) -> float:
        """Target offset from the centreline (m)."""
        self.drift += -self.drift * DT / 3 + float(self.rng.normal(0, 0.35)) * self.style.drift_amplitude * math.sqrt(
            DT
        )
        sway = math.sin(2 * math.pi * self.time / self.style.period + self.phase[0])
        sway += 0.6 * math.sin(2 * math.pi * self.time / (2.7 * self.style.period) + self.phase[1])
        goal = LANE_CENTRE
        if self.manoeuvre == "overtake":
            goal = -LANE_CENTRE
        elif self.manoeuvre == "leave":
            goal = 4.8 + 1.8 * self.strength
        self.target += min(max(goal - self.target, -0.28), 0.28)
        return self.target + self.style.drift_amplitude * 0.6 * sway + self.drift

    def _steer(self, info: dict[str, Any]) -> float:
        speed = info["speed"]
        v = math.copysign(max(abs(speed), 4.0), speed if abs(speed) > 0.2 else 1.0)
        desired = min(max(-0.55 * (info["lateral"] - self._target_lateral()) / v, -0.42), 0.42)
        curvature = info["curvature_ahead"] + 2.1 * (desired - info["heading_error"]) / v
        steering = math.atan(WHEELBASE * curvature) / full_lock(speed)
        self.tremor += -self.tremor * DT / 0.45 + self.style.tremor * math.sqrt(2 * DT / 0.45) * float(
            self.rng.normal()
        )
        steering += self.tremor
        if self.manoeuvre == "swerve":
            steering += self.side * (0.35 + 0.5 * self.strength)
        elif self.manoeuvre == "reverse" and self.reversing:
            steering += self.side * 0.5 * self.strength
        elif self.manoeuvre == "stand" and abs(speed) < 0.1:
            steering = 0.3 * math.sin(self.time * 1.3 + self.phase[2])
        return min(max(steering, -1.0), 1.0)

    def _target_acceleration(self, info: dict[str, Any]) -> float:
        """Target acceleration (m/s²)."""
        speed = info["speed"]
        wave = 1 + 0.16 * math.sin(2 * math.pi * self.time / 17 + self.phase[2])
        desired = min(self.style.cruise * wave, math.sqrt(self.style.lateral / max(info["bend_ahead"], 1e-4)))
        if info["off_road"] or self.manoeuvre == "leave":
            desired = min(desired, 14.0)
        acceleration = min(max(0.7 * (desired - speed), -4.0), 2.6)
        closing = max(speed - info["lead_speed"], 0.0)
        margin = info["lead_gap"] - 4.0 - 0.7 * speed
        if info["lead_gap"] < 150 and closing > 0:
            acceleration = min(acceleration, -closing * closing / (2 * max(info["lead_gap"] - 4.0, 0.5)) + 0.4)
        if margin < 0:
            acceleration = min(acceleration, max(0.5 * margin, -7.0))
        if self.manoeuvre == "brake":
            acceleration = -3.0 - 4.0 * self.strength
        elif self.manoeuvre == "stand" or (self.manoeuvre == "reverse" and not self.reversing):
            acceleration = -2.0 - 2.5 * self.strength
        return acceleration


def drive(
    seed: int, frames: int, image_size: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Simulate one scripted drive. The seed determines the road, weather, traffic and driver.

    Yields (frame uint8 (H, W, 3), action float32 (4,) applied after the frame, `info` of the frame).
    Stops early if the episode terminates, for example at the end of the road after 11 km.
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
