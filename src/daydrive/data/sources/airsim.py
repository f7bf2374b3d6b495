"""Recordings of cars in AirSim (Shah et al. 2017, arXiv:1705.05065) and its forks, such as Cosys-AirSim.

    <root>/**/airsim_rec.txt    a header, then a row for each time and vehicle, separated by tabs:
        VehicleName                             since 2020
        TimeStamp                               ms
        POS_X, POS_Y, POS_Z, Q_W, Q_X, Q_Y, Q_Z m, from (forward, right, down) to (north, east, down); not in 2017
        Throttle, Steering, Brake, Gear, Handbrake, RPM, Speed     m/s; `Speed (kmph)` in 2017
        ImageFile                               `ImageName` in 2017; several names have `;` between them
    <root>/**/images/img_[<vehicle>_]<camera>_<type>_<ns>.png      type 0 is the RGB image
                     img_<number>_<ms>.png                         in 2017 and in AirSim for Unity

Recordings without Throttle, Steering and Brake get actions from their poses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.kinematics.ego_motion import (
    MIN_SPEED,
    Array,
    Bicycle,
    Rates,
    motion,
    rates_from_poses,
    rotations_from_quaternions,
)
from daydrive.data.sources import derived
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.ego_drives import GAP
from daydrive.data.sources.files import find_folders, inside, read_text
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.table import number
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_NAMES, Drive, Frame

LOG, IMAGES = "airsim_rec.txt", "images"
DEPTH = 4
"""Levels of folders below the root that are searched."""

POSE = ("pos_x", "pos_y", "pos_z", "q_w", "q_x", "q_y", "q_z")
LIMITS = {"throttle": 1.5, "steering": 1.5, "brake": 2.0}
"""Largest absolute values of the commands; a steering wheel yields up to 1.25, its pedal up to 2, and AirSim clips."""
OTHERS = {"handbrake": 1.0, "speed": np.inf, "speed (kmph)": np.inf}

UNITS = {"ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
RATES = (0.5, 120.0)
"""Frames per second of a recording; this range identifies the unit of its times."""

FAST = 2.0
"""m/s; above this, speed and positions are precise enough to be compared."""
SAME_STEP = 1.25
"""Largest ratio of the step by speed and positions to that of the clock that is not reported."""
ALONG = 0.8
"""Smallest share of a car's motion that is along its longitudinal axis, in nine of ten steps."""

BICYCLE = Bicycle(wheelbase=2.8, largest_angle=0.5)
"""A car of average size; AirSim does not log which of its models is driven."""

VALUES = {
    "speed": "m/s, negative backwards; as logged, otherwise from the poses",
    "recorded_throttle": "Throttle, negative backwards",
    "x": "m to the north",
    "y": "m to the east",
    "yaw": "rad, from north to east",
    "row": f"line of {LOG}, from 1",
}

_IMAGE = re.compile(r"(.*)_(\d+)_\d+\.\w+")
"""Camera and type in the name of an image, without what precedes the camera. Names in versions of 2017 have neither."""


class _Poses(NamedTuple):
    """positions (N, 3) m; rotations (N, 3, 3) from (forward, right, down) to (north, east, down)."""

    positions: Array
    rotations: Array


@dataclass(frozen=True)
class _Recording:
    """The usable rows of a vehicle.

    name: of the drive. rows: (N,) lines of the log, from 1. images: (N,) file names. times: (N,) s, increasing.
    commands: (N, 4) throttle, steering, brake, handbrake, or None. speed: (N,) m/s, or None.
    """

    log: Path
    name: str
    rows: list[int]
    images: list[str]
    times: Array
    commands: Array | None
    speed: Array | None
    poses: _Poses | None

    def rates(self) -> Rates | None:
        return rates_from_poses(self.times, *self.poses) if self.poses else None

    def driven(self, chosen: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], Array]:
        """Actions (K, 4) in the ranges of `Frame.action` and the columns of `VALUES`, (K, 6), of the chosen rows."""
        rates = self.rates()
        speed, throttle, location = self.speed, np.full(len(self.rows), np.nan), np.full((len(self.rows), 3), np.nan)
        if self.poses and rates:
            forward = self.poses.rotations[:, :, 0]
            location = np.column_stack([self.poses.positions[:, :2], np.arctan2(forward[:, 1], forward[:, 0])])
            speed = motion(rates, self.times).speed if speed is None else speed
        speed = np.zeros(len(self.rows)) if speed is None else speed
        if self.commands is not None:
            throttle = self.commands[:, 0]
            table = _actions(self.commands, speed)
            actions = clock.held_mean(table, self.times, chosen)
            actions[:, 3] = table[chosen, 3]
        else:
            assert rates is not None
            actions = derived.derive_actions(rates, self.times, chosen, BICYCLE).actions
        values = np.column_stack([speed, throttle, location, self.rows])[chosen]
        return actions.astype(np.float32), values


@dataclass(frozen=True)
class _Frames:
    """The frames of the chosen rows of a recording."""

    root: Path
    log: Path
    images: list[str]
    rows: list[int]
    actions: npt.NDArray[np.float32]
    values: Array
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        for k, name in enumerate(self.images):
            path = inside(self.log.parent / IMAGES / name, self.root)
            image = read_image(path, f"{self.log}, row {self.rows[k]}", self.image_size, shrink=True)
            values = dict(zip(VALUES, self.values[k].tolist(), strict=True))
            yield Frame(image, self.actions[k], k / self.hz, values)


class AirSimSource:
    name = "airsim"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("camera", str, None, "name of the camera; default: the first of each row"),
        Option("hz", float, None, "frames per second; default: the recordings' native rate", 0.1),
        Option("recorded_hz", float, None, "rows per second of simulated time; default: by their times", 0.1),
        Option("seed", int, 0, "seed of the split by recording", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        held = "mean over the interval between two frames; a row's command holds until the next row"
        pedal = f"Throttle in the direction of travel is throttle, against it brake; {held}"
        direction = f"sign of the speed, below {MIN_SPEED:g} m/s of Throttle"
        return {
            "actions": {
                "steering": action("share of full lock", "positive to the right", "[-1, 1]", f"clipped; {held}"),
                "throttle": action("share of full throttle", "positive accelerates", "[0, 1]", pedal),
                "brake": action("share of full brake", "positive slows down", "[0, 1]", f"1 at Handbrake; {pedal}"),
                "gear": action("direction", "1 forwards, -1 backwards", "{-1, 1}", direction),
            },
            "actions_from_poses": derived.describe(BICYCLE, "poses")["actions"],
            "bicycle": BICYCLE.constants(),
            "values": VALUES,
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        logs = [folder / LOG for folder in find_folders(root, lambda folder: (folder / LOG).exists(), DEPTH)]
        if not logs:
            raise UserError(f"{root} has no recordings of AirSim, which are folders with {LOG} and {IMAGES}/")
        recordings = [recording for log in logs for recording in _read(root, log, options)]
        _report_slow_simulations(recordings)
        rates = clock.shared_hz([(r.log, r.times) for r in recordings], options["hz"])
        drives, counts = [], FrameCounts()
        for recording, hz in zip(recordings, rates, strict=True):
            made_from = dict.fromkeys(ACTION_NAMES, "poses" if recording.commands is None else "commands")
            runs = clock.resample(recording.times, hz, GAP / hz)
            counts.recorded += len(recording.rows)
            for run, chosen in counts.usable(runs, len(recording.rows), hz, GAP / hz):
                images, rows = ([column[k] for k in chosen] for column in (recording.images, recording.rows))
                frames = _Frames(root, recording.log, images, rows, *recording.driven(chosen), hz, image_size)
                name = recording.name if len(runs) == 1 else f"{recording.name}.{run}"
                group = str(recording.log.parent.relative_to(root))
                drives.append(Drive(name, hz, frames, None, len(chosen), group, made_from))
        if not drives:
            raise UserError(f"{root} has no {clock.MIN_RUN_SECONDS:g} s of images without a gap{counts.why_none()}")
        return CountedDrives(drives, counts)


def _read(root: Path, log: Path, options: Options) -> list[_Recording]:
    """The recordings of all vehicles in a log."""
    lines = read_text(log, root).rstrip("\r\n").splitlines()
    header = [cell.strip() for cell in lines[0].split("\t")] if lines else []
    columns = {cell.lower().replace("imagename", "imagefile"): k for k, cell in enumerate(header)}
    missing = [name for name in ("TimeStamp", "ImageFile") if name.lower() not in columns]
    if missing:
        raise UserError(f"{log}, row 1: there is no column '{missing[0]}'; the columns are separated by tabs")
    if not (columns.keys() >= LIMITS.keys() or columns.keys() >= set(POSE)):
        raise UserError(f"{log}, row 1: there are neither the columns Throttle, Steering, Brake nor POS_X to Q_Z")
    vehicles: dict[str, list[tuple[int, list[str]]]] = {}
    for row, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) == len(header):
            vehicles.setdefault(cells[columns["vehiclename"]] if "vehiclename" in columns else "", []).append(
                (row, cells)
            )
        elif row < len(lines) and line.strip():  # the last row may have been cut off
            raise UserError(f"{log}, row {row}: there are {len(cells)} cells, but the header has {len(header)}")
    if not vehicles:
        raise UserError(f"{log} has no rows below its header")
    folder = log.parent.relative_to(root).as_posix() if log.parent != root else root.resolve().name
    found = []
    for vehicle, rows in vehicles.items():
        name = folder if len(vehicles) == 1 else f"{folder}/{vehicle}"
        images = _images([cells[columns["imagefile"]] for _, cells in rows], vehicle, log, options["camera"])
        found.append(_recording(log, name, columns, rows, images, options["recorded_hz"]))
    return found


def _images(cells: list[str], vehicle: str, log: Path, camera: str | None) -> list[str]:
    """The file name of the camera's RGB image in each cell, '' if there is none."""
    found: list[str] = []
    cameras: set[str] = set()
    for cell in cells:
        shown: dict[str, str] = {}
        for name in (PureWindowsPath(part.strip()).name for part in cell.split(";") if part.strip()):
            start = f"img_{vehicle}_" if vehicle and name.startswith(f"img_{vehicle}_") else "img_"
            match = _IMAGE.fullmatch(name.removeprefix(start))
            if match is None or match[2] == "0":
                shown.setdefault(match[1] if match else "", name)
        cameras |= shown.keys()
        found.append(shown.get(camera, "") if camera is not None else next(iter(shown.values()), ""))
    if camera is not None and camera not in cameras:
        raise UserError(f"--camera {camera}: {log} has no such camera{did_you_mean(camera, cameras)}")
    if not cameras:
        raise UserError(f"{log} has no RGB images; record a camera with ImageType 0")
    return found


def _recording(
    log: Path,
    name: str,
    columns: dict[str, int],
    rows: list[tuple[int, list[str]]],
    images: list[str],
    hz: float | None,
) -> _Recording:
    """The usable rows of a vehicle. columns: indices of the cells by name. hz: of the rows, None to use their times."""
    limits = {**dict.fromkeys(("timestamp", *POSE), np.inf), **LIMITS, **OTHERS}
    indices = {column: columns[column] for column in limits if column in columns}

    def numbers(row: int, cells: list[str]) -> list[float]:
        where = f"{log}, row {row}"
        return [number(cells[k], column, where, -limits[column], limits[column]) for column, k in indices.items()]

    read = dict(zip(indices, np.array([numbers(row, cells) for row, cells in rows]).T, strict=True))
    exists = np.array([bool(image) and (log.parent / IMAGES / image).is_file() for image in images])
    if not exists.any():
        raise UserError(f"{log.parent / IMAGES} has none of the images of {log.name}")
    times = np.where(exists, read["timestamp"], -np.inf)
    later = times > np.concatenate([[-np.inf], np.maximum.accumulate(times)[:-1]])
    usable = np.flatnonzero(exists & later)
    if len(usable) < len(rows):
        print(
            f"{len(rows) - len(usable)} of {len(rows)} rows of {log} are left out: {np.sum(~exists)} without an image, "
            f"{np.sum(exists & ~later)} whose time is not after that of an earlier row."
        )
    if len(usable) < 2:
        raise UserError(f"{log} has {len(usable)} usable rows; a drive needs at least 2")
    read = {column: values[usable] for column, values in read.items()}
    lines = [rows[k][0] for k in usable]
    recording = _Recording(
        log,
        name,
        lines,
        [images[k] for k in usable],
        _seconds(read["timestamp"], log) if hz is None else usable / hz,
        _commands(read) if read.keys() >= LIMITS.keys() else None,
        read["speed (kmph)"] / 3.6 if "speed (kmph)" in read else read.get("speed"),
        _poses(np.column_stack([read[column] for column in POSE]), log, lines) if read.keys() >= set(POSE) else None,
    )
    _check_car(recording)
    return recording


def _seconds(stamps: Array, log: Path) -> Array:
    """Times (N,) s from the first; their unit is the one that gives a frame rate within `RATES`."""
    interval = float(np.median(np.diff(stamps)))
    unit = next((unit for unit, s in UNITS.items() if 1.0 / RATES[1] <= interval * s <= 1.0 / RATES[0]), None)
    if unit is None:
        raise UserError(
            f"{log}: TimeStamp increases by {interval:g} from row to row, which is {RATES[0]:g} to {RATES[1]:g} frames "
            f"per second in none of {', '.join(UNITS)}; set the rate of the rows with --set recorded_hz=10"
        )
    if unit != "ms":
        print(
            f"{log}: TimeStamp is read as {unit}, which gives {1.0 / (interval * UNITS[unit]):.1f} frames per second."
        )
    return (stamps - stamps[0]) * UNITS[unit]


def _commands(read: dict[str, Array]) -> Array:
    return np.column_stack([*(read[name] for name in LIMITS), read.get("handbrake", np.zeros_like(read["brake"]))])


def _poses(table: Array, log: Path, lines: list[int]) -> _Poses:
    bad = np.flatnonzero(np.abs(np.linalg.norm(table[:, 3:], axis=1) - 1.0) > 0.02)
    if len(bad):
        quaternion = table[bad[0], 3:].tolist()
        raise UserError(f"{log}, row {lines[bad[0]]}: Q_W, Q_X, Q_Y, Q_Z are {quaternion}, which is not a rotation")
    return _Poses(table[:, :3], rotations_from_quaternions(table[:, 3:]))


def _check_car(recording: _Recording) -> None:
    """Raises UserError for a vehicle that has no commands and does not move like a car."""
    rates = recording.rates()
    if recording.poses is None or rates is None or recording.commands is not None:
        return
    distance = np.linalg.norm(np.diff(recording.poses.positions, axis=0), axis=1)
    intervals = np.diff(recording.times)
    moving = distance > MIN_SPEED * intervals
    along = np.abs(rates.speed) * intervals / np.maximum(distance, 1e-9)
    if moving.any() and (share := float(np.quantile(along[moving], 0.1))) < ALONG:
        raise UserError(
            f"{recording.log}: {recording.name} moves sideways or vertically (in a tenth of the steps at most "
            f"{share:.0%} of the motion is along its longitudinal axis); recordings of multirotors are not supported"
        )


def _report_slow_simulations(recordings: Sequence[_Recording]) -> None:
    """Prints how many simulations did not keep up with their clocks, by their speeds and positions."""
    steps = np.array([(_simulated_step(r), float(np.median(np.diff(r.times)))) for r in recordings])
    slow = np.abs(np.log(steps[:, 0] / steps[:, 1])) > np.log(SAME_STEP)
    if slow.any():
        simulated, by_clock = np.median(steps[slow], axis=0)
        print(
            f"In {slow.sum()} of {len(recordings)} recordings the simulation did not run at the rate of its clock: by "
            f"speed and positions the car drives for {simulated:.3g} s from row to row, by TimeStamp for "
            f"{by_clock:.3g} s (medians); --set recorded_hz={1.0 / simulated:.3g} uses simulated time."
        )


def _simulated_step(recording: _Recording) -> float:
    """Seconds from row to row by speed and positions, median; by the times if this is unknown."""
    step = float(np.median(np.diff(recording.times)))
    if recording.speed is None or recording.poses is None:
        return step
    speed = np.abs(recording.speed[1:] + recording.speed[:-1]) / 2.0
    distance = np.linalg.norm(np.diff(recording.poses.positions, axis=0), axis=1)
    fast = speed > FAST
    return (float(np.median(distance[fast] / speed[fast])) if fast.any() else step) or step


def _actions(commands: Array, speed: Array) -> Array:
    """Actions (N, 4) in the ranges of `Frame.action` from commands (N, 4) and speed (N,) m/s.

    Throttle against the direction of travel brakes: the keyboard's brake is throttle -1.
    """
    throttle, steering, brake, handbrake = commands.T
    direction = np.sign(np.where(np.abs(speed) >= MIN_SPEED, speed, throttle))
    last = np.maximum.accumulate(np.where(direction != 0.0, np.arange(len(direction)), -1))
    gear = np.where(last >= 0, direction[last], 1.0)
    drive = np.clip(throttle * gear, -1.0, 1.0)
    brakes = np.clip(np.max([np.abs(brake), np.abs(handbrake), -drive], axis=0), 0.0, 1.0)
    return np.column_stack([np.clip(steering, -1.0, 1.0), np.maximum(drive, 0.0), brakes, gear])
