"""What the driver did, from how the car moved.

Timed poses or measured rates become speed, yaw rate and acceleration of the rear axle; a kinematic bicycle turns these
into the angle of the front wheels (Rajamani, Vehicle Dynamics and Control, section 2.2). Turns are positive to the
right all the way through.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics.signals import smooth

Array = npt.NDArray[np.float64]

WINDOW = 0.8
"""Seconds over which rates are smoothed: longer than the noise of poses, shorter than a turn of the wheel."""

STANDING = 0.3
"""m/s; below this a curvature cannot be told"""

LARGEST_ACCELERATION, LARGEST_BRAKING = 4.0, 8.0
"""m/s² at throttle 1 and brake 1: more than a family car takes off with, and about what its tyres hold"""


class Rates(NamedTuple):
    """times (N,) s; speed (N,) m/s along the car's nose, negative backwards; yaw_rate (N,) rad/s."""

    times: Array
    speed: Array
    yaw_rate: Array


class Motion(NamedTuple):
    """speed (M,) m/s, negative backwards; yaw_rate (M,) rad/s; acceleration (M,) m/s², the change of speed."""

    speed: Array
    yaw_rate: Array
    acceleration: Array

    @property
    def curvature(self) -> Array:
        """(M,) 1/m. Where the car stands the wheel goes evenly from where it was to where it is when the car moves on;
        0 where it never moves."""
        moves = np.flatnonzero(np.abs(self.speed) >= STANDING)
        if len(moves) == 0:
            return np.zeros_like(self.speed)
        return np.interp(np.arange(len(self.speed)), moves, self.yaw_rate[moves] / self.speed[moves])

    @property
    def gear(self) -> Array:
        """(M,) 1 forwards, -1 backwards; a car that stands keeps the gear it came with."""
        moves = np.abs(self.speed) >= STANDING
        last = np.maximum.accumulate(np.where(moves, np.arange(len(moves)), -1))
        return np.where(last >= 0, np.where(self.speed[last] < 0.0, -1.0, 1.0), 1.0)


def rates_from_poses(times: Array, positions: Array, rotations: Array, up: Array | None = None) -> Rates:
    """Speed and yaw rate between neighbouring poses, at the middle of each interval.

    times: (N,) s, increasing. positions: (N, 3) m. rotations: (N, 3, 3), from the car's axes (forward, right, down) to
    the world's. up: (3,), the vertical in the world; the car's own axis by default. A camera anywhere on the car's long
    axis does: that changes its sideways speed only.
    """
    steps = np.einsum("nji,njk->nik", rotations[:-1], rotations[1:])
    turns = _rotation_vectors(steps)
    intervals = np.diff(times)
    yaw = turns[:, 2] if up is None else -np.einsum("nij,nj,i->n", rotations[:-1], turns, up)
    forward = rotations[:-1, :, 0] + rotations[1:, :, 0]
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    travelled = np.einsum("ni,ni->n", np.diff(positions, axis=0), forward)
    return Rates((times[:-1] + times[1:]) / 2.0, travelled / intervals, yaw / intervals)


def motion(rates: Rates, times: Array, window: float = WINDOW) -> Motion:
    """Motion from each of `times` (M,) s to the next, smoothed; the last is that of its moment."""
    middles = np.append((times[:-1] + times[1:]) / 2.0, times[-1])
    fit = smooth(rates.times, np.stack([rates.speed, rates.yaw_rate], axis=1), middles, window)
    return Motion(fit.value[:, 0], fit.value[:, 1], fit.slope[:, 0])


def rotations_from_quaternions(quaternions: Array) -> Array:
    """Hamilton quaternions (N, 4), real part first, of any length → rotation matrices (N, 3, 3)."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _rotation_vectors(rotations: Array) -> Array:
    """(N, 3, 3) of less than half a turn → axis times angle (N, 3), rad."""
    r = rotations
    twice = np.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], axis=1)
    sine = np.linalg.norm(twice, axis=1) / 2.0
    angle = np.arctan2(sine, (np.trace(r, axis1=1, axis2=2) - 1.0) / 2.0)
    return np.asarray(twice / 2.0 * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)[:, None])


def pedals(
    acceleration: Array, largest: float = LARGEST_ACCELERATION, largest_braking: float = LARGEST_BRAKING
) -> tuple[Array, Array]:
    """Throttle and brake (M,) in [0, 1] of an acceleration (M,) m/s² in the direction of travel.

    >>> throttle, brake = pedals(np.array([2.0, -2.0]))
    >>> throttle.tolist(), brake.tolist()
    ([0.5, 0.0], [0.0, 0.25])
    """
    return np.clip(acceleration / largest, 0.0, 1.0), np.clip(-acceleration / largest_braking, 0.0, 1.0)


@dataclass(frozen=True)
class Bicycle:
    """A car whose controls are read off its motion.

    wheelbase: m. largest_angle: rad of the front wheels at steering 1. largest_acceleration, largest_braking: m/s² at
    throttle 1 and brake 1.
    """

    wheelbase: float
    largest_angle: float
    largest_acceleration: float = LARGEST_ACCELERATION
    largest_braking: float = LARGEST_BRAKING

    def steering_angle(self, motion: Motion) -> Array:
        """(M,) rad of the front wheels, positive to the right."""
        return np.arctan(self.wheelbase * motion.curvature)

    def actions(self, motion: Motion) -> Array:
        """(M, 4) steering, throttle, brake, gear in the range of `Frame.action`."""
        steering = np.clip(self.steering_angle(motion) / self.largest_angle, -1.0, 1.0)
        gear = motion.gear
        pressed = pedals(motion.acceleration * gear, self.largest_acceleration, self.largest_braking)
        return np.column_stack([steering, *pressed, gear])

    def constants(self) -> dict[str, float]:
        """For the store's metadata, in SI units."""
        return asdict(self)
