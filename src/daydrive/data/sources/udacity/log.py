"""The simulator's log: a row per frame with the images of three cameras, the controls and the speed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PureWindowsPath

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.frame_counts import FrameCounts
from daydrive.data.sources.image_folder import ImageFolder
from daydrive.data.sources.table import cells_of, number, separator_of
from daydrive.errors import UserError, did_you_mean

CAMERAS = ("center", "left", "right")
READINGS = ("steering", "throttle", "brake", "speed")
COLUMNS = (*CAMERAS, *READINGS)

STANDSTILL_SPEED = 1.0
"""mph; a car that changes direction is slower than this in at least one row."""

_STAMP = re.compile(r"_(\d{4})_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d\d)_(\d{3})\.jpe?g$", re.IGNORECASE)
_PART_OF_A_NUMBER = re.compile(r"\s*-?\d+(E[-+]?\d+)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Log:
    """images: names (N,) of each camera's images. rows: (N,) in the file, from 1. times: (N,) s since `start`.
    readings: (N, 4) steering, throttle, brake, speed. gear: (N,).

    In reverse (gear -1), throttle and brake are swapped: the log calls the pedal that drives the car backwards brake.
    """

    images: dict[str, list[str]]
    rows: list[int]
    start: datetime
    times: npt.NDArray[np.float64]
    readings: npt.NDArray[np.float64]
    gear: npt.NDArray[np.float64]


def read_log(
    file: Path,
    folder: ImageFolder,
    cameras: Sequence[str],
    taken: set[str],
    counts: FrameCounts,
    recorded_hz: float | None = None,
) -> Log | None:
    """The rows whose images of these cameras can be read; None with fewer than two. Other rows are added to `counts`.

    taken: images of the logs that were read before, to which this log's are added. recorded_hz: rate of the
    rows, in place of the times in the names of the images. A UserError names file and row, from 1.
    """
    images: dict[str, list[str]] = {camera: [] for camera in cameras}
    rows: list[int] = []
    stamps: list[datetime] = []
    readings: list[list[float]] = []
    for row, cells in _rows(file, counts):
        where = f"{file}, row {row}"
        counts.recorded += 1
        names = {camera: image_name(cells[camera]) for camera in cameras}
        stamp = _time_in(names[cameras[0]], where)
        problem = next((problem for name in names.values() if (problem := folder.problem(name))), None)
        if problem is None and not taken.isdisjoint(names.values()):
            problem = "in another row or log, too"
        if problem is not None:
            counts.leave_out(1, f"with an image that is {problem}", first=where)
            continue
        if recorded_hz:
            stamp = (stamps[0] if stamps else stamp) + timedelta(seconds=len(stamps) / recorded_hz)
        if stamps and stamp <= stamps[-1]:
            name = names[cameras[0]]
            raise UserError(f"{where}: the time in '{name}' is not after that of the previous row; sort the log")
        for camera, name in names.items():
            images[camera].append(name)
        taken.update(names.values())
        rows.append(row)
        stamps.append(stamp)
        readings.append(
            [
                number(cells["steering"], "steering", where, -1.0, 1.0),
                number(cells["throttle"], "throttle", where, 0.0, 1.0),
                number(cells["brake"], "brake", where, 0.0, 1.0),
                number(cells["speed"], "speed", where),
            ]
        )
    if len(rows) < 2:
        counts.leave_out(len(rows), "alone in a log", first=str(file))
        return None
    times = np.array([(stamp - stamps[0]).total_seconds() for stamp in stamps])
    values = np.array(readings)
    gear = _gear(*values[:, 1:].T)
    values[:, 1:3] = np.where(gear[:, None] < 0.0, values[:, 2:0:-1], values[:, 1:3])
    return Log(images, rows, stamps[0], times, values, gear)


def first_images(file: Path, count: int) -> list[str]:
    """The names of the center images in the first rows."""
    rows = _rows(file, FrameCounts())
    return [image_name(cells[CAMERAS[0]]) for _, cells in itertools.islice(rows, count)]


def image_name(cell: str) -> str:
    """The file name in a path of the recording machine."""
    return PureWindowsPath(cell.strip()).name


def _rows(file: Path, counts: FrameCounts) -> Iterator[tuple[int, dict[str, str]]]:
    """Number and cells, by column, of the rows, without a header, blank ones, and a last one that is cut off."""
    columns: Sequence[str] = COLUMNS
    cut_off: tuple[int, str] | None = None
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        for row, cells in enumerate(cells_of(stream, file, separator_of(stream)), start=1):
            names = [cell.strip().lower() for cell in cells]
            if not any(names):
                continue
            if cut_off is not None:
                raise UserError(f"{file}, row {cut_off[0]}: {cut_off[1]}")
            if row == 1 and CAMERAS[0] in names:
                columns = names
                missing = next((name for name in COLUMNS if name not in columns), None)
                if missing is not None:
                    raise UserError(f"{file}, row 1: there is no column '{missing}'{did_you_mean(missing, columns)}")
            elif len(cells) > len(columns):
                raise UserError(f"{file}, row {row}: {_wrong_number(cells, columns)}")
            elif len(cells) < len(columns):
                cut_off = row, _wrong_number(cells, columns)
            else:
                yield row, dict(zip(columns, cells, strict=True))
    if cut_off is not None:
        counts.recorded += 1
        counts.leave_out(1, "in a row that is cut off", first=f"{file}, row {cut_off[0]}")


def _wrong_number(cells: Sequence[str], columns: Sequence[str]) -> str:
    """What is wrong with a row that has fewer or more cells than columns."""
    if len(cells) > len(columns) and all(_PART_OF_A_NUMBER.fullmatch(cell) for cell in cells[len(CAMERAS) :]):
        return (
            "the numbers have decimal commas, which the simulator writes with some system languages; record with "
            "LC_ALL=C (Linux, macOS) or an English region (Windows), or write decimal points into this log"
        )
    return f"there are {len(cells)} columns, expected {len(columns)} ({', '.join(columns)})"


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
