"""Vehicle dynamics: a kinematic bicycle model with engine, brakes, gear and limited grip.

The model refers to the rear axle (Rajamani, Vehicle Dynamics and Control, section 2.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WHEELBASE = 2.7
GRAVITY = 9.81
SUBSTEPS = 4
FULL_LOCK = 0.55
"""Maximum angle of the front wheels (rad), at standstill."""
LOCK_SPEED = 6.6
"""The maximum angle decreases as 1 / (1 + (v / LOCK_SPEED)^2), so that full steering stays near the limit of grip."""
STEERING_LAG = 0.12
GRIP_ROAD, GRIP_GRASS = 8.5, 5.5
TOP_REVERSE = 6.0
FULL_BRAKE = 8.0
"""Deceleration (m/s²) of brake = 1."""
DRAG = 0.0009
"""Deceleration (m/s²) by the air at 1 m/s; it grows with the square of the speed."""


@dataclass(frozen=True)
class CarState:
    """x, y (m) of the rear axle, yaw (rad, positive right), speed (m/s, negative in reverse), wheel angle (rad),
    yaw rate (rad/s), acceleration (m/s²)."""

    x: float
    y: float
    yaw: float
    speed: float
    wheel: float
    yaw_rate: float = 0.0
    acceleration: float = 0.0


def full_lock(speed: float) -> float:
    """Wheel angle (rad) for steering = 1 at a speed (m/s)."""
    return FULL_LOCK / (1 + (speed / LOCK_SPEED) ** 2)


def engine_acceleration(speed: float) -> float:
    """Acceleration (m/s²) of full throttle at a speed (m/s), without resistance."""
    return 4.2 / (1 + (abs(speed) / 18) ** 2)


def resistance(speed: float) -> float:
    """Deceleration (m/s²) on level asphalt without throttle and brake."""
    return 0.10 + DRAG * speed * speed


def _acceleration(speed: float, throttle: float, brake: float, gear: int, slope: float, off_road: bool) -> float:
    """Longitudinal acceleration (m/s²), without the handling of standstill."""
    engine = engine_acceleration(speed)
    if gear < 0:
        engine *= max(0.0, 1 + min(speed, 0.0) / TOP_REVERSE)
    driving = gear * throttle * engine * (0.6 if off_road else 1.0)
    slowing = resistance(speed) + (0.9 if off_road else 0.0) + FULL_BRAKE * brake
    return driving - GRAVITY * slope - math.copysign(min(slowing, abs(speed) * 40), speed)


def advance(
    car: CarState, action: tuple[float, float, float, int], dt: float, slope: float, off_road: bool
) -> CarState:
    """Advance the car by dt seconds. action: steering, throttle, brake, gear. slope: rise per metre along heading."""
    steering, throttle, brake, gear = action
    x, y, yaw, speed, wheel = car.x, car.y, car.yaw, car.speed, car.wheel
    h = dt / SUBSTEPS
    yaw_rate = 0.0
    for _ in range(SUBSTEPS):
        wheel += (steering * full_lock(speed) - wheel) * (1 - math.exp(-h / STEERING_LAG))
        standing = abs(speed) < 0.3 and (brake > 0.05 or throttle < 0.02)
        if standing:
            speed = 0.0
        else:
            change = _acceleration(speed, throttle, brake, gear, slope, off_road) * h
            stops = brake > 0.05 and speed != 0 and (speed + change) * speed < 0
            speed = 0.0 if stops else speed + change
        grip = GRIP_GRASS if off_road else GRIP_ROAD
        yaw_rate = speed * math.tan(wheel) / WHEELBASE
        limit = grip / max(abs(speed), 0.1)
        yaw_rate = min(max(yaw_rate, -limit), limit)
        middle = yaw + yaw_rate * h / 2
        x += speed * math.cos(middle) * h
        y += speed * math.sin(middle) * h
        yaw += yaw_rate * h
    return CarState(x, y, yaw, speed, wheel, yaw_rate, (speed - car.speed) / dt)
