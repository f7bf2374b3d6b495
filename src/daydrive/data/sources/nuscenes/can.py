"""The CAN bus expansion of nuScenes.

    <root>/can_bus/scene-NNNN_<message>.json    a list of messages with `utime`, µs since 1970

    steeranglefeedback  100 Hz       value: rad at the steering wheel, positive to the left
    vehicle_monitor     2 Hz         throttle: 0 to 1000; brake: bar, 0 to 126; gear_position: 0 parked, 7 driving
    zoesensors          >= 800 Hz    throttle_sensor, brake_sensor: the same pedals on another scale
    pose                50 Hz        vel: m/s, and rotation_rate: rad/s, along and about (forward, left, up)

Other messages and fields are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics.ego_motion import Rates
from daydrive.data.kinematics.signals import covered
from daydrive.data.sources.nuscenes.records import Record, records
from daydrive.errors import UserError

Array = npt.NDArray[np.float64]

FOLDER = "can_bus"
SCENES_WITHOUT_CAN = frozenset(f"scene-{k:04d}" for k in [*range(161, 169), *range(170, 177), *range(309, 315)])
"""Scenes whose messages are known to be missing or wrong."""

TOLERANCE = {"steeranglefeedback": 0.1, "zoesensors": 0.1, "pose": 0.1, "vehicle_monitor": 1.0}
"""Maximum distance of a time to the nearest message at which a signal is available, s."""

MIN_CORRELATION, MIN_MESSAGES = 0.95, 10
"""Required correlation of zoesensors with vehicle_monitor, and number of messages, to use zoesensors in its place."""

VECTORS = {"vel": 0, "rotation_rate": 2}
"""Fields with three numbers, and the index of the one that is read."""


class Signal(NamedTuple):
    """message: the message type it was read from. times (K,) s, non-decreasing, K >= 2; values (K,)."""

    message: str
    times: Array
    values: Array

    def covers(self, times: Array) -> bool:
        """Whether the signal is available at all of `times` (N,) s."""
        return bool(covered(self.times, times, TOLERANCE[self.message]).all())


@dataclass(frozen=True)
class CanBus:
    """The CAN signals of a scene: for each quantity the available signals, the one with the highest rate first.

    steering: rad. throttle: 0 to 1000. brake: bar. speed: m/s. yaw_rate: rad/s. Turns are positive to the left.
    """

    steering: list[Signal]
    throttle: list[Signal]
    brake: list[Signal]
    gear_position: list[Signal]
    speed: list[Signal]
    yaw_rate: list[Signal]

    def rates(self, times: Array) -> Rates | None:
        """Speed and yaw rate, positive to the right; None unless both are available at all of `times`."""
        speed, yaw_rate = best(self.speed, times), best(self.yaw_rate, times)
        return Rates(speed.times, speed.values, -yaw_rate.values) if speed and yaw_rate else None


def best(signals: Sequence[Signal], times: Array) -> Signal | None:
    """The first signal that is available at all of `times`."""
    return next((signal for signal in signals if signal.covers(times)), None)


def read_can_bus(root: Path, scene: str, origin: int) -> CanBus:
    """The CAN signals of a scene. Times are in s since `origin` (µs since 1970); missing messages give no signals."""

    def read(message: str, *names: str) -> list[list[Signal]]:
        return _signals(root, scene, message, origin, names)

    (steering,) = read("steeranglefeedback", "value")
    throttle, brake, gear = read("vehicle_monitor", "throttle", "brake", "gear_position")
    throttle_sensor, brake_sensor = read("zoesensors", "throttle_sensor", "brake_sensor")
    speed, yaw_rate = read("pose", "vel", "rotation_rate")
    throttle, brake = _with_fast_signal(throttle, throttle_sensor), _with_fast_signal(brake, brake_sensor)
    return CanBus(steering, throttle, brake, gear, speed, yaw_rate)


def _signals(root: Path, scene: str, message: str, origin: int, names: Sequence[str]) -> list[list[Signal]]:
    """For each field a list with its signal, empty if there are no messages."""
    file = root / FOLDER / f"{scene}_{message}.json"
    if scene in SCENES_WITHOUT_CAN or not file.exists():
        return [[] for _ in names]
    times: list[int] = []
    rows = []
    for record in records(file, root):
        times.append(record.integer("utime"))
        if len(times) > 1 and times[-1] < times[-2]:
            raise UserError(f"{record.where}: its utime {times[-1]} is before {times[-2]}")
        rows.append([_value(record, name) for name in names])
    if len(rows) < 2:
        return [[] for _ in names]
    moments = (np.array(times, dtype=np.int64) - origin) / 1e6
    return [[Signal(message, moments, column)] for column in np.array(rows).T]


def _value(record: Record, name: str) -> float:
    return record.numbers(name, 3)[VECTORS[name]] if name in VECTORS else record.float_number(name)


def _with_fast_signal(slow: list[Signal], fast: list[Signal]) -> list[Signal]:
    """`slow`, preceded by `fast` scaled to it by least squares if the two correlate."""
    if not slow or not fast:
        return slow
    (_, times, values), (message, moments, readings) = slow[0], fast[0]
    both = (times >= moments[0]) & (times <= moments[-1])
    x, y = np.interp(times[both], moments, readings), values[both]
    if len(y) < MIN_MESSAGES or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return slow
    x, y = x - x.mean(), y - y.mean()
    scale = float(x @ y / (x @ x))
    if float(x @ y) < MIN_CORRELATION * float(np.sqrt((x @ x) * (y @ y))):
        return slow
    offset = float(values[both].mean() - scale * np.interp(times[both], moments, readings).mean())
    return [Signal(message, moments, offset + scale * readings), *slow]
