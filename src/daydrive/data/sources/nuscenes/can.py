"""The expansion of nuScenes' CAN bus.

    <root>/can_bus/scene-NNNN_<message>.json    a list of messages with `utime`, µs since 1970

    steeranglefeedback  100 Hz       value: rad at the steering wheel, positive to the left
    vehicle_monitor     2 Hz         throttle: 0 to 1000; brake: bar, 0 to 126; gear_position: 0 parked, 7 driving
    zoesensors          800 Hz up    throttle_sensor, brake_sensor: the same pedals on a scale of their own
    pose                50 Hz        vel: m/s, and rotation_rate: rad/s, along and about (forward, left, up)

The other messages, and the other fields of these, are not read.
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
from daydrive.data.sources.nuscenes.tables import Record, records
from daydrive.errors import UserError

Array = npt.NDArray[np.float64]

FOLDER = "can_bus"
WITHOUT = frozenset(f"scene-{k:04d}" for k in [*range(161, 169), *range(170, 177), *range(309, 315)])
"""scenes whose messages are known to be missing or wrong"""

REACH = {"steeranglefeedback": 0.1, "zoesensors": 0.1, "pose": 0.1, "vehicle_monitor": 1.0}
"""seconds from the nearest message up to which a signal is known"""

AGREEMENT, FEWEST = 0.95, 10
"""correlation of zoesensors with vehicle_monitor, over at least so many messages, from which on it stands for it"""

VECTORS = {"vel": 0, "rotation_rate": 2}
"""fields with three numbers, and which one is read"""


class Signal(NamedTuple):
    """message: what it was read from. times (K,) s, not decreasing, K >= 2; values (K,)."""

    message: str
    times: Array
    values: Array

    def known(self, times: Array) -> bool:
        """Whether it is at all of `times` (N,)."""
        return bool(covered(self.times, times, REACH[self.message]).all())


@dataclass(frozen=True)
class CanBus:
    """What the bus said in a scene: for each quantity the signals that tell it, the finest first.

    steering: rad. throttle: of 1000. brake: bar. speed: m/s. yaw_rate: rad/s. Turns are positive to the left.
    """

    steering: list[Signal]
    throttle: list[Signal]
    brake: list[Signal]
    gear_position: list[Signal]
    speed: list[Signal]
    yaw_rate: list[Signal]

    def rates(self, times: Array) -> Rates | None:
        """Speed and yaw rate, the latter positive to the right, where they are known at all of `times`."""
        speed, yaw_rate = best(self.speed, times), best(self.yaw_rate, times)
        return Rates(speed.times, speed.values, -yaw_rate.values) if speed and yaw_rate else None


def best(signals: Sequence[Signal], times: Array) -> Signal | None:
    """The first that is known at all of `times`."""
    return next((signal for signal in signals if signal.known(times)), None)


def read_can_bus(root: Path, scene: str, origin: int) -> CanBus:
    """The messages of a scene. Times are s since `origin`, µs since 1970; what was not recorded has no signals."""

    def read(message: str, *names: str) -> list[list[Signal]]:
        return _signals(root, scene, message, origin, names)

    (steering,) = read("steeranglefeedback", "value")
    throttle, brake, gear = read("vehicle_monitor", "throttle", "brake", "gear_position")
    throttle_sensor, brake_sensor = read("zoesensors", "throttle_sensor", "brake_sensor")
    speed, yaw_rate = read("pose", "vel", "rotation_rate")
    return CanBus(steering, _finer(throttle, throttle_sensor), _finer(brake, brake_sensor), gear, speed, yaw_rate)


def _signals(root: Path, scene: str, message: str, origin: int, names: Sequence[str]) -> list[list[Signal]]:
    """For each of the fields a signal, or none where there are no messages."""
    file = root / FOLDER / f"{scene}_{message}.json"
    if scene in WITHOUT or not file.exists():
        return [[] for _ in names]
    times: list[int] = []
    rows = []
    for record in records(file, root):
        times.append(record.whole("utime"))
        if len(times) > 1 and times[-1] < times[-2]:
            raise UserError(f"{record.where}: its utime {times[-1]} comes before {times[-2]}")
        rows.append([_value(record, name) for name in names])
    if len(rows) < 2:
        return [[] for _ in names]
    moments = (np.array(times, dtype=np.int64) - origin) / 1e6
    return [[Signal(message, moments, column)] for column in np.array(rows).T]


def _value(record: Record, name: str) -> float:
    return record.numbers(name, 3)[VECTORS[name]] if name in VECTORS else record.number_in(name)


def _finer(slow: list[Signal], fast: list[Signal]) -> list[Signal]:
    """`slow`, and before it `fast` brought to its scale by least squares, where the two agree."""
    if not slow or not fast:
        return slow
    (_, times, values), (message, moments, readings) = slow[0], fast[0]
    both = (times >= moments[0]) & (times <= moments[-1])
    seen, told = np.interp(times[both], moments, readings), values[both]
    if len(told) < FEWEST or np.ptp(seen) == 0.0 or np.ptp(told) == 0.0:
        return slow
    seen, told = seen - seen.mean(), told - told.mean()
    scale = float(seen @ told / (seen @ seen))
    if float(seen @ told) < AGREEMENT * float(np.sqrt((seen @ seen) * (told @ told))):
        return slow
    offset = float(values[both].mean() - scale * np.interp(times[both], moments, readings).mean())
    return [Signal(message, moments, offset + scale * readings), *slow]
