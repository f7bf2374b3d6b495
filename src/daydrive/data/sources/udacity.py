"""Recordings of Udacity's self-driving-car simulator.

    <root>/driving_log.csv   center, left, right image, steering, throttle, brake, speed; no header
    <root>/IMG/center_YYYY_MM_DD_HH_MM_SS_mmm.jpg

The log contains image paths of the recording machine, of which only the file name is used; it contains the time of the
row. The simulator reverses while the brake is held at a standstill, and does not log the gear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data.images import read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.table import cells_of, number
from daydrive.data.sources.timestamps import RECORDED_HZ
from daydrive.errors import UserError
from daydrive.types import Drive, Frame

LOG = "driving_log.csv"
COLUMNS = 7
STEERING, THROTTLE, BRAKE, SPEED = 3, 4, 5, 6

STANDSTILL_SPEED = 1.0
"""mph; a car that changes direction is slower than this in at least one row."""

_STAMP = re.compile(r"_(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{3})\.jpe?g$", re.IGNORECASE)


@dataclass(frozen=True)
class _Log:
    """names (N,) of images; times (N,) s since `start`; readings (N, 4) steering, throttle, brake, speed; gear (N,).

    In reverse (gear -1), throttle and brake are swapped: the log calls the pedal that drives the car backwards brake.
    """

    names: list[str]
    start: datetime
    times: npt.NDArray[np.float64]
    readings: npt.NDArray[np.float64]
    gear: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Frames:
    """The frames of the chosen rows of a recording."""

    folder: Path
    log: Path
    names: list[str]
    rows: list[int]
    actions: npt.NDArray[np.float32]
    speed: npt.NDArray[np.float64]
    period: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        for k, name in enumerate(self.names):
            row = self.rows[k]
            image = read_image(self.folder / name, f"{self.log}, row {row}", self.image_size, shrink=True)
            yield Frame(image, self.actions[k], k * self.period, {"speed": float(self.speed[k]), "row": float(row)})


class UdacitySource:
    name = "udacity"
    needs_root = True
    split: Literal["drive", "time"] = "time"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the recording's native rate", minimum=0.1),
        RECORDED_HZ,
    )

    def describe(self, options: Options) -> dict[str, Any]:
        held = "mean over the interval between two frames; a row's reading holds until the next row"
        pedal = f"{held}; backwards (gear -1) throttle and brake are exchanged"
        gear = "-1 where speed grows from a standstill under the brake alone, until the car stands again; else 1"
        return {
            "actions": {
                "steering": action("share of the largest angle (25 degrees)", "positive to the right", "[-1, 1]", held),
                "throttle": action("share of full throttle", "positive speeds up", "[0, 1]", pedal),
                "brake": action("share of full brake", "positive slows down", "[0, 1]", pedal),
                "gear": action("not recorded", "1 forwards, -1 backwards", "{-1, 1}", gear),
            },
            "values": {"speed": "mph", "row": "line of driving_log.csv that the picture comes from, from 1"},
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        log_file, folder = root / LOG, root / "IMG"
        if not log_file.is_file() or not folder.is_dir():
            raise UserError(f"{root} is not a recording of the Udacity simulator: it needs {LOG} and a folder IMG")
        log = _read_log(log_file)
        if options["recorded_hz"]:
            log = replace(log, times=np.arange(len(log.times)) / options["recorded_hz"])
        (native,) = clock.shared_hz([(log_file, log.times)], None, options["recorded_hz"])
        hz = float(options["hz"] or native)
        if hz > native * clock.SAME_RATE:
            raise UserError(f"{log_file} has {native:g} frames per second, too few for --hz {hz:g}")
        drives = []
        for chosen in clock.resample(log.times, hz):
            if not clock.long_enough(chosen, hz):
                continue
            held = clock.held_mean(log.readings[:, :3], log.times, chosen)
            frames = _Frames(
                folder,
                log_file,
                [log.names[row] for row in chosen.tolist()],
                [row + 1 for row in chosen.tolist()],
                np.column_stack([held, log.gear[chosen]]).astype(np.float32),
                log.readings[chosen, 3],
                1.0 / hz,
                image_size,
            )
            start = log.start + timedelta(seconds=float(log.times[chosen[0]]))
            drives.append(Drive(start.strftime("%Y-%m-%d_%H-%M-%S"), hz, frames, length=len(chosen)))
        if not drives:
            raise UserError(f"{log_file} has no {clock.MIN_RUN_SECONDS:g} s without a gap at {hz:g} Hz")
        return drives


def _read_log(file: Path) -> _Log:
    names: list[str] = []
    stamps: list[datetime] = []
    readings: list[list[float]] = []
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        for row, cells in enumerate(cells_of(stream, file), start=1):
            where = f"{file}, row {row}"
            if len(cells) != COLUMNS:
                raise UserError(
                    f"{where}: there are {len(cells)} columns, expected {COLUMNS} "
                    "(center, left, right, steering, throttle, brake, speed)"
                )
            name = PureWindowsPath(cells[0].strip()).name
            stamp = _time_in(name, where)
            if stamps and stamp <= stamps[-1]:
                raise UserError(f"{where}: the time in '{name}' is not after that of the previous row; sort the log")
            names.append(name)
            stamps.append(stamp)
            readings.append(
                [
                    number(cells[STEERING], "steering", where, -1.0, 1.0),
                    number(cells[THROTTLE], "throttle", where, 0.0, 1.0),
                    number(cells[BRAKE], "brake", where, 0.0, 1.0),
                    number(cells[SPEED], "speed", where),
                ]
            )
    if len(names) < 2:
        raise UserError(f"{file} has {len(names)} rows; a drive needs at least 2")
    times = np.array([(stamp - stamps[0]).total_seconds() for stamp in stamps])
    values = np.array(readings)
    gear = _gear(*values[:, 1:].T)
    values[:, 1:3] = np.where(gear[:, None] < 0.0, values[:, 2:0:-1], values[:, 1:3])
    return _Log(names, stamps[0], times, values, gear)


def _gear(
    throttle: npt.NDArray[np.float64], brake: npt.NDArray[np.float64], speed: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) 1 forwards, -1 in reverse: from a standstill at which the car starts to move with the brake alone."""
    gear = np.ones(len(speed))
    brake_only = (brake > 0.0) & (throttle == 0.0)
    reverse = False
    for row in range(1, len(speed)):
        if speed[row] < STANDSTILL_SPEED:
            reverse = False
        elif (
            speed[row - 1] < STANDSTILL_SPEED
            and brake_only[row]
            and brake_only[row - 1]
            and speed[row] > speed[row - 1]
        ):
            reverse = True
            gear[row - 1] = -1.0
        gear[row] = -1.0 if reverse else 1.0
    return gear


def _time_in(name: str, where: str) -> datetime:
    match = _STAMP.search(name)
    if match is None:
        raise UserError(f"{where}: '{name}' does not end with a time such as _2018_07_16_17_11_43_382.jpg")
    year, month, day, hour, minute, second, millisecond = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, minute, second, millisecond * 1000)
    except ValueError as error:
        raise UserError(f"{where}: the time in '{name}' is invalid ({error})") from error
