"""Actions from messages: of known types, or of any fields that are named by options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics.ego_motion import WINDOW, Array, Bicycle, Motion, Rates, motion
from daydrive.data.kinematics.signals import smooth
from daydrive.data.sources.base import Options
from daydrive.data.sources.mapping import QUANTITIES, VALUES, ColumnMapping
from daydrive.data.sources.rosbag.bags import Bag
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_NAMES

HOLD = 0.5
"""Seconds for which a message holds if no other one follows; at least 1.5 times the interval of its topic."""

LONGEST_SEQUENCE = 16
"""Elements of a sequence that can be named, such as `/joy.axes.3`."""

COLUMNS = (*VALUES, "yaw_rate")


@dataclass(frozen=True)
class Commands:
    """The commands of a bag, each of which holds until the next. times: (M,) s, increasing. actions: (M, 4) in the
    ranges of `Frame.action`. values: (M, 6), the columns of `COLUMNS`. made_from: as in `Drive`. hold: longest time, s,
    from a command to a frame that it applies to."""

    times: Array
    actions: Array
    values: Array
    made_from: Mapping[str, str]
    hold: float

    def known(self, frames: Array) -> npt.NDArray[np.int64]:
        """Indices of the frames, given at (N,) s, for which there is a command."""
        before = np.searchsorted(self.times, frames, side="right") - 1
        age = frames - self.times[np.maximum(before, 0)]
        return np.flatnonzero((before >= 0) & (age <= self.hold))

    def sample(self, frames: Array) -> tuple[npt.NDArray[np.float32], Array]:
        """Actions (K, 4) and values (K, 6) from each of the frames, (K,) non-decreasing s, K >= 2, to the next: means,
        and the last gear. A repeated frame has the command at its time."""
        edges = np.append(frames, frames[-1] + (frames[-1] - frames[0]) / (len(frames) - 1))
        columns = np.hstack([self.actions, self.values])
        times = np.append(self.times, max(self.times[-1], edges[-1]) + 1.0)
        area = np.vstack([0.0 * columns[:1], np.cumsum(columns * np.diff(times)[:, None], axis=0)])
        at_edges = np.column_stack([np.interp(edges, times, column) for column in area.T])
        intervals = np.diff(edges)[:, None]
        held = columns[np.maximum(np.searchsorted(self.times, edges[:-1], side="right") - 1, 0)]
        means = np.divide(np.diff(at_edges, axis=0), intervals, out=held, where=intervals > 0.0)
        last = np.maximum(np.searchsorted(self.times, edges[1:], side="left") - 1, 0)
        means[:, 3], means[:, 7] = self.actions[last, 3], self.values[last, 3]
        actions = np.clip(means[:, :4], (-1.0, 0.0, 0.0, -1.0), 1.0)
        return actions.astype(np.float32), means[:, 4:]


@dataclass(frozen=True)
class CommandType:
    """A message type with known commands.

    fields: of speed (m/s) and, where it has them, of the angle of the front wheels (rad, positive to the left), the yaw
    rate (rad/s, positive to the left) and the acceleration (m/s²).
    """

    speed: str
    angle: str | None = None
    yaw_rate: str | None = None
    acceleration: str | None = None


_TWIST = CommandType("linear.x", yaw_rate="angular.z")
COMMAND_TYPES = {
    "ackermann_msgs/msg/AckermannDriveStamped": CommandType("drive.speed", "drive.steering_angle"),
    "ackermann_msgs/msg/AckermannDrive": CommandType("speed", "steering_angle"),
    "autoware_control_msgs/msg/Control": CommandType(
        "longitudinal.velocity", "lateral.steering_tire_angle", acceleration="longitudinal.acceleration"
    ),
    "autoware_auto_control_msgs/msg/AckermannControlCommand": CommandType(
        "longitudinal.speed", "lateral.steering_tire_angle", acceleration="longitudinal.acceleration"
    ),
    "geometry_msgs/msg/TwistStamped": CommandType("twist.linear.x", yaw_rate="twist.angular.z"),
    "geometry_msgs/msg/Twist": _TWIST,
    "nav_msgs/msg/Odometry": CommandType("twist.twist.linear.x", yaw_rate="twist.twist.angular.z"),
}
"""In order of preference."""


def read_commands(bag: Bag, options: Options, bicycle: Bicycle, delay: float) -> Commands:
    """The commands of a bag, from the fields in the options if they name an action, otherwise from a known type.

    delay: s, added to the times of messages without a stamp. Raises UserError if there is no such message.
    """
    if any(options[name] is not None for name in ACTION_NAMES):
        return _named_fields(bag, options, delay)
    topic = _command_topic(bag, options["commands"])
    kind = COMMAND_TYPES[bag.topics[topic]]
    fields = [name for name in (kind.speed, kind.angle, kind.yaw_rate, kind.acceleration) if name is not None]
    times, columns = _read(bag, topic, fields, delay)
    read = dict(zip(fields, columns, strict=True))
    moved = _motion(times, read, kind)
    actions, values = bicycle.actions(moved), np.full((len(times), len(COLUMNS)), np.nan)
    values[:, COLUMNS.index("speed")] = moved.speed
    made_from = {name: f"{topic} ({bag.topics[topic]})" for name in ACTION_NAMES}
    if kind.angle is not None:
        actions[:, 0] = np.clip(-read[kind.angle] / bicycle.largest_angle, -1.0, 1.0)
        values[:, COLUMNS.index("recorded_steering")] = read[kind.angle]
        made_from["steering"] = f"{topic}.{kind.angle}, rad, positive to the left"
    else:
        values[:, COLUMNS.index("yaw_rate")] = moved.yaw_rate
        made_from["steering"] = f"{topic}.{kind.yaw_rate} and {kind.speed}, bicycle model"
    return Commands(times, actions, values, made_from, _hold([times]))


def _motion(times: Array, read: Mapping[str, Array], kind: CommandType) -> Motion:
    speed = read[kind.speed]
    if kind.acceleration is not None:
        return Motion(speed, np.zeros_like(speed), read[kind.acceleration])
    if kind.yaw_rate is not None:
        return motion(Rates(times, speed, -read[kind.yaw_rate]), times)
    return Motion(speed, np.zeros_like(speed), smooth(times, speed[:, None], times, WINDOW).slope[:, 0])


def _command_topic(bag: Bag, given: str | None) -> str:
    """The topic with commands; the only one of the preferred type by default."""
    known = {topic: kind for topic, kind in bag.topics.items() if kind in COMMAND_TYPES}
    listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(known.items())[:8])
    if given is not None:
        topic = next((topic for topic in known if topic.strip("/") == given.strip("/")), None)
        if topic is None:
            raise UserError(
                f"--set commands={given}: {bag.path} has no such topic with commands{did_you_mean(given, known)}"
            )
        return topic
    for kind in COMMAND_TYPES:
        topics = sorted(topic for topic, found in known.items() if found == kind)
        if len(topics) > 1:
            raise UserError(
                f"{bag.path} has several topics with commands; choose one with --set commands=TOPIC: {listed}"
            )
        if topics:
            return topics[0]
    raise UserError(
        f"{bag.path} has no topic with commands of a known type (Ackermann, Autoware, Twist, Odometry); name the "
        f"fields, such as --set steering=/joy.axes.0; its topics: {', '.join(sorted(bag.topics)[:12])}"
    )


def _named_fields(bag: Bag, options: Options, delay: float) -> Commands:
    """Commands at the times of all named fields, each of which holds until its next message."""
    known = {f"{topic}.{field}": (topic, field) for topic in sorted(bag.topics) for field in _fields(bag, topic)}
    given = {name: options[name] and "/" + str(options[name]).lstrip("/") for name in QUANTITIES}
    mapping = ColumnMapping.from_options({**options, **given}, list(known), {}, str(bag.path))
    series: dict[str, tuple[Array, Array]] = {}
    for topic in dict.fromkeys(known[column][0] for column in mapping.columns.values()):
        fields = {name: known[column][1] for name, column in mapping.columns.items() if known[column][0] == topic}
        times, columns = _read(bag, topic, list(fields.values()), delay)
        series |= {name: (times, values) for name, values in zip(fields, columns, strict=True)}
    start = max(times[0] for times, _ in series.values())
    rows = np.unique(np.concatenate([times[times >= start] for times, _ in series.values()]))
    recorded = {
        name: values[np.searchsorted(times, rows, side="right") - 1] for name, (times, values) in series.items()
    }
    actions = mapping.actions(recorded, lambda row: f"{bag.path}, at {rows[row]:.3f} s")
    values = np.column_stack([mapping.values(recorded), np.full(len(rows), np.nan)])
    return Commands(rows, actions, values, mapping.made_from(), _hold([times for times, _ in series.values()]))


def _hold(series: list[Array]) -> float:
    return max(HOLD, *(1.5 * float(np.median(np.diff(times))) for times in series))


def _read(bag: Bag, topic: str, fields: list[str], delay: float) -> tuple[Array, list[Array]]:
    """Times (M,) s, increasing, M >= 2, and the values of the fields (M,) each, of a topic."""
    times: list[float] = []
    rows: list[list[float]] = []
    for number, message in enumerate(bag.messages({topic}), start=1):
        time = message.time + delay if message.stamp is None else message.stamp
        if times and time <= times[-1]:
            continue
        times.append(time)
        rows.append([_value(message.content, field, f"{bag.path}, {topic}, message {number}") for field in fields])
    if len(times) < 2:
        raise UserError(f"{bag.path} has {len(times)} messages on {topic}, too few for a drive")
    return np.array(times), list(np.array(rows).T)


def _value(content: Any, field: str, where: str) -> float:
    for part in field.split("."):
        if part.isdecimal():
            if int(part) >= len(content):
                raise UserError(f"{where}: {field} does not exist, there are {len(content)} elements")
            content = content[int(part)]
        else:
            content = getattr(content, part)
    value = float(content)
    if not np.isfinite(value):
        raise UserError(f"{where}: {field} is {value}, which is not a finite number")
    return value


def _fields(bag: Bag, topic: str) -> Iterator[str]:
    """The names of all numbers in the messages of a topic, such as `twist.linear.x` and `axes.0`."""
    from rosbags.interfaces import Nodetype

    types = bag.types(topic)
    definitions = types.fielddefs if types is not None else {}

    def walk(node: Any, name: str) -> Iterator[str]:
        tag, details = node
        if tag == Nodetype.NAME:
            yield from inner(details, f"{name}.")
        elif tag == Nodetype.BASE:
            if details[0] != "string":
                yield name
        elif details[0][1][0] not in ("uint8", "byte", "char", "octet"):
            for index in range(min(details[1] or LONGEST_SEQUENCE, LONGEST_SEQUENCE)):
                yield from walk(details[0], f"{name}.{index}")

    def inner(of: str, prefix: str) -> Iterator[str]:
        for field, node in definitions[of][1] if of in definitions else ():
            yield from walk(node, f"{prefix}{field}")

    return inner(bag.topics[topic], "")
