"""Actions of nuScenes drives: from the CAN bus if recorded, otherwise from the ego poses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics.ego_motion import WINDOW, Bicycle, rates_from_poses, rotations_from_quaternions
from daydrive.data.kinematics.signals import means_between
from daydrive.data.sources import derived
from daydrive.data.sources.base import action
from daydrive.data.sources.nuscenes.can import CanBus, Signal, best
from daydrive.data.sources.nuscenes.scenes import Scene

Array = npt.NDArray[np.float64]

BICYCLE = Bicycle(wheelbase=2.588, largest_angle=0.5)
"""Renault Zoe."""

STEERING_RATIO = 16.0
"""Angle of the steering wheel / angle of the front wheels, approximately."""

LARGEST_THROTTLE, LARGEST_BRAKE = 1000.0, 126.0
"""Full scale of throttle and brake (bar) in vehicle_monitor."""

POSES = "ego_pose"

VALUES = {
    **derived.VALUES,
    "steering_angle": "rad at the steering wheel, positive to the left, mean up to the next frame; CAN bus only",
    "throttle_pedal": f"0 to {LARGEST_THROTTLE:g}, mean up to the next frame; CAN bus only",
    "brake_pressure": f"bar, 0 to {LARGEST_BRAKE:g}, mean up to the next frame; CAN bus only",
    "gear_position": "0 parked, 7 driving, at the frame; CAN bus only",
    "x": "m on the map",
    "y": "m on the map",
    "heading": "rad on the map, from x to y",
    "timestamp": "µs since 1970, of the exposure's beginning",
    "key_frame": "1 for a key frame, 0 for a sweep",
}


class SceneActions(NamedTuple):
    """actions (K, 4) in the ranges of `Frame.action`; values (K, len(VALUES)); made_from: table or message from which
    steering, throttle, brake and motion (speed, yaw rate, gear) are taken."""

    actions: Array
    values: Array
    made_from: dict[str, str]


def scene_actions(scene: Scene, can: CanBus, chosen: npt.NDArray[np.int64]) -> SceneActions:
    """Actions and values from each of the chosen images (K,), non-decreasing, K >= 2, of a scene to the next."""
    run = slice(int(chosen[0]), int(chosen[-1]) + 1)
    times, rotations = scene.seconds[run], rotations_from_quaternions(scene.quaternions[run])
    forward_right_down = rotations * np.array([1.0, -1.0, -1.0])
    measured = can.rates(times)
    rates = measured or rates_from_poses(times, scene.positions[run], forward_right_down)
    from_motion = derived.derive_actions(rates, times, chosen - chosen[0], BICYCLE)
    moments = scene.seconds[chosen]
    edges = np.append(moments, moments[-1] + (moments[-1] - moments[0]) / (len(moments) - 1))
    commands = {
        "steering": (can.steering, -STEERING_RATIO * BICYCLE.largest_angle, (-1.0, 1.0)),
        "throttle": (can.throttle, LARGEST_THROTTLE, (0.0, 1.0)),
        "brake": (can.brake, LARGEST_BRAKE, (0.0, 1.0)),
    }
    actions, made_from, recorded = from_motion.actions.copy(), {}, []
    for column, (name, (signals, full_scale, (low, high))) in enumerate(commands.items()):
        signal = best(signals, times)
        recorded.append(_means(signal, edges))
        made_from[name] = signal.message if signal else POSES
        if signal:
            actions[:, column] = np.clip(recorded[-1] / full_scale, low, high)
    made_from["motion"] = "pose" if measured else POSES
    gear = best(can.gear_position, times)
    forward = rotations[chosen - chosen[0], :, 0]
    values = np.column_stack(
        [
            from_motion.values,
            *recorded,
            _latest(gear, moments),
            scene.positions[chosen, :2],
            np.arctan2(forward[:, 1], forward[:, 0]),
            scene.micros[chosen],
            scene.key_frames[chosen],
        ]
    )
    return SceneActions(actions, values, made_from)


def _means(signal: Signal | None, edges: Array) -> Array:
    return means_between(signal.times, signal.values, edges) if signal else np.full(len(edges) - 1, np.nan)


def _latest(signal: Signal | None, moments: Array) -> Array:
    """The signal's last value at or before each time; NaN without a signal."""
    if signal is None:
        return np.full(len(moments), np.nan)
    return signal.values[np.clip(np.searchsorted(signal.times, moments, side="right") - 1, 0, None)]


def describe() -> dict[str, Any]:
    """Metadata: `actions` from the CAN bus and `actions_from_poses`; a drive's `made_from` says which ones apply."""
    poses = derived.describe(BICYCLE, "speed and yaw rate of pose or ego_pose")
    wheel = BICYCLE.largest_angle
    pedal = "mean up to the next frame; zoesensors on the scale of vehicle_monitor, or vehicle_monitor (2 Hz) alone"
    lag = "none taken out; zoesensors has the time at which it was received"
    return {
        "actions": {
            "steering": {
                **action(
                    f"share of {wheel:g} rad at the front wheels",
                    "positive to the right; the CAN bus's angle is positive to the left",
                    "[-1, 1]",
                    f"-steeranglefeedback / {STEERING_RATIO:g} / {wheel:g} rad, clipped; mean up to the next frame",
                ),
                "lag": "none taken out; steeranglefeedback has the time at which it was measured",
            },
            "throttle": {
                **action(
                    "share of the pedal's way",
                    "positive forwards",
                    "[0, 1]",
                    f"throttle / {LARGEST_THROTTLE:g}; {pedal}",
                ),
                "lag": lag,
            },
            "brake": {
                **action(
                    f"share of {LARGEST_BRAKE:g} bar",
                    "positive slows down",
                    "[0, 1]",
                    f"brake / {LARGEST_BRAKE:g} bar; {pedal}",
                ),
                "lag": lag,
            },
            "gear": {
                **poses["actions"]["gear"],
                "lag": f"none; smoothed over {WINDOW:g} s around its moment",
            },
        },
        "actions_from_poses": poses["actions"],
        "bicycle": {**BICYCLE.constants(), "steering_ratio": STEERING_RATIO},
        "values": VALUES,
    }
