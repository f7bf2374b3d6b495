"""Actions derived from ego motion, for recordings without recorded actions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import WINDOW, Array, Bicycle, Rates, motion
from daydrive.data.sources.base import action

VALUES = {
    "speed": "m/s, negative backwards, mean up to the next frame",
    "yaw_rate": "rad/s, positive to the right, mean up to the next frame",
    "acceleration": "m/s², change of the speed, mean up to the next frame",
    "curvature": "1/m, positive to the right, mean up to the next frame",
}


class DerivedActions(NamedTuple):
    """actions (K, 4) in the ranges of `Frame.action`; values (K, 4), the columns of `VALUES`."""

    actions: Array
    values: Array


def derive_actions(rates: Rates, times: Array, chosen: npt.NDArray[np.int64], bicycle: Bicycle) -> DerivedActions:
    """Actions and values from each chosen frame to the next. times: (N,) s of all frames; chosen: (K,) indices."""
    moved = motion(rates, times)
    values = np.column_stack([moved.speed, moved.yaw_rate, moved.acceleration, moved.curvature])
    means = clock.held_mean(np.hstack([bicycle.actions(moved), values]), times, chosen)
    means[:, 3] = np.where(means[:, 3] < 0.0, -1.0, 1.0)
    return DerivedActions(means[:, :4], means[:, 4:])


def describe(bicycle: Bicycle, of: str) -> dict[str, Any]:
    """Metadata of derived actions: the conversion from `of` (the recorded quantity) and the bicycle's parameters."""
    wheel = bicycle.largest_angle
    made = f"{of}, smoothed over {WINDOW:g} s, mean up to the next frame"
    return {
        "actions": {
            "steering": action(
                f"share of {wheel:g} rad at the front wheels",
                "positive to the right",
                "[-1, 1]",
                f"atan({bicycle.wheelbase:g} m * yaw rate / speed) / {wheel:g} rad, clipped; {made}",
            ),
            **describe_pedals(bicycle.largest_acceleration, bicycle.largest_braking, made),
            "gear": action("direction", "1 forwards, -1 backwards", "{-1, 1}", f"sign of the speed; {made}"),
        },
        "values": VALUES,
        "bicycle": bicycle.constants(),
    }


def describe_pedals(max_acceleration: float, max_braking: float, made: str) -> dict[str, dict[str, str]]:
    """Metadata of throttle and brake from `ego_motion.pedals`."""
    return {
        "throttle": action(
            f"share of {max_acceleration:g} m/s²",
            "positive forwards",
            "[0, 1]",
            f"acceleration / {max_acceleration:g}, clipped; {made}",
        ),
        "brake": action(
            f"share of {max_braking:g} m/s²",
            "positive slows down",
            "[0, 1]",
            f"-acceleration / {max_braking:g}, clipped; {made}",
        ),
    }
