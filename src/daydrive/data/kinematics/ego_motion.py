"""Driver actions derived from ego motion.

Timed poses or measured rates are converted to speed, yaw rate and acceleration at the rear axle; a kinematic bicycle
model converts these to the angle of the front wheels (Rajamani, Vehicle Dynamics and Control, section 2.2). Turns are
positive to the right throughout.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics.signals import smooth

Array = npt.NDArray[np.float64]

WINDOW = 0.8
"""Seconds over which rates are smoothed: longer than the noise of poses, shorter than a steering maneuver."""

MIN_SPEED = 0.3
"""m/s; below this the curvature is undefined."""

LARGEST_ACCELERATION, LARGEST_BRAKING = 4.0, 8.0
"""m/s² at throttle 1 and brake 1: above the acceleration of a typical car, and about the grip limit of its tires."""


class Rates(NamedTuple):
    """times (N,) s; speed (N,) m/s along the car's forward axis, negative in reverse; yaw_rate (N,) rad/s."""

    times: Array
    speed: Array
    yaw_rate: Array


class Motion(NamedTuple):
    """speed (M,) m/s, negative in reverse; yaw_rate (M,) rad/s; acceleration (M,) m/s², the rate of change of speed."""

    speed: Array
    yaw_rate: Array
    acceleration: Array

    @property
    def curvature(self) -> Array:
        """(M,) 1/m. While the car stands it is interpolated linearly between the last and the next moving sample; 0 if
        the car never moving."""
        moving = np.flatnonzero(np.abs(self.speed) >= MIN_SPEED)
        if len(moving) == 0:
            return np.zeros_like(self.speed)
        return np.interp(np.arange(len(self.speed)), moving, self.yaw_rate[moving] / self.speed[moving])

    @property
    def gear(self) -> Array:
        """(M,) 1 forwards, -1 in reverse; while the car stands, the last gear."""
        moving = np.abs(self.speed) >= MIN_SPEED
        last = np.maximum.accumulate(np.where(moving, np.arange(len(moving)), -1))
        return np.where(last >= 0, np.where(self.speed[last] < 0.0, -1.0, 1.0), 1.0)


def rates_from_poses(times: Array, positions: Array, rotations: Array, up: Array | None = None) -> Rates:
    """Speed and yaw rate between consecutive poses, at the midpoint of each interval.

    times: (N,) s, increasing. positions: (N, 3) m. rotations: (N, 3, 3), from the car's axes (forward, right, down) to
    world axes. up: (3,), the vertical in the world; default: the car's own vertical axis. The poses may be those of a
    camera anywhere on the car's longitudinal axis, since the offset only affects the lateral speed.
    """
    steps = np.einsum("nji,njk->nik", rotations[:-1], rotations[1:])
    rotation_vectors = _rotation_vectors(steps)
    intervals = np.diff(times)
    yaw = rotation_vectors[:, 2] if up is None else -np.einsum("nij,nj,i->n", rotations[:-1], rotation_vectors, up)
    forward = rotations[:-1, :, 0] + rotations[1:, :, 0]
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    distance = np.einsum("ni,ni->n", np.diff(positions, axis=0), forward)
    return Rates((times[:-1] + times[1:]) / 2.0, distance / intervals, yaw / intervals)


def motion(rates: Rates, times: Array, window: float = WINDOW) -> Motion:
    """Smoothed motion from each of `times` (M,) s to the next; the last sample is the motion at the last time."""
    midpoints = np.append((times[:-1] + times[1:]) / 2.0, times[-1])
    fit = smooth(rates.times, np.stack([rates.speed, rates.yaw_rate], axis=1), midpoints, window)
    return Motion(fit.value[:, 0], fit.value[:, 1], fit.slope[:, 0])


def rotations_from_quaternions(quaternions: Array) -> Array:
    """Rotation matrices (N, 3, 3) of Hamilton quaternions (N, 4), real part first, of any norm."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _rotation_vectors(rotations: Array) -> Array:
    """Rotation vectors (N, 3), axis times angle in rad, of rotations (N, 3, 3) by less than 180 degrees."""
    r = rotations
    twice = np.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], axis=1)
    sine = np.linalg.norm(twice, axis=1) / 2.0
    angle = np.arctan2(sine, (np.trace(r, axis1=1, axis2=2) - 1.0) / 2.0)
    return np.asarray(twice / 2.0 * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)[:, None])


def pedals(
    acceleration: Array, max_acceleration: float = LARGEST_ACCELERATION, max_braking: float = LARGEST_BRAKING
) -> tuple[Array, Array]:
    """Throttle and brake, (M,) in [0, 1], for an acceleration (M,) m/s² in the direction of travel.

    >>> throttle, brake = pedals(np.array([2.0, -2.0]))
    >>> throttle.tolist(), brake.tolist()
    ([0.5, 0.0], [0.0, 0.25])
    """
    return np.clip(acceleration / max_acceleration, 0.0, 1.0), np.clip(-acceleration / max_braking, 0.0, 1.0)


@dataclass(frozen=True)
class Bicycle:
    """Kinematic bicycle model that derives actions from motion.

    wheelbase: m. largest_angle: angle of the front wheels at steering 1, rad. largest_acceleration, largest_braking:
    m/s² at throttle 1 and brake 1.
    """

    wheelbase: float
    largest_angle: float
    largest_acceleration: float = LARGEST_ACCELERATION
    largest_braking: float = LARGEST_BRAKING

    def steering_angle(self, motion: Motion) -> Array:
        """Angle of the front wheels, (M,) rad, positive to the right."""
        return np.arctan(self.wheelbase * motion.curvature)

    def actions(self, motion: Motion) -> Array:
        """Steering, throttle, brake and gear, (M, 4), in the ranges of `Frame.action`."""
        steering = np.clip(self.steering_angle(motion) / self.largest_angle, -1.0, 1.0)
        gear = motion.gear
        throttle_brake = pedals(motion.acceleration * gear, self.largest_acceleration, self.largest_braking)
        return np.column_stack([steering, *throttle_brake, gear])

    def constants(self) -> dict[str, float]:
        """The model's parameters in SI units, for the store's metadata."""
        return asdict(self)
