"""Times as recordings write them: numbers in s, ms, µs or ns, Unix times, ISO 8601, other dates and times of day.

A unit is recognized only where a single one gives a possible rate; anything unclear is rejected with the cure.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics.clock import MAX_HZ, MIN_HZ
from daydrive.data.sources.base import Option
from daydrive.errors import UserError

Array = npt.NDArray[np.float64]

SECONDS = "seconds"
UNITS = {SECONDS: 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}
"""Seconds per unit."""

TIME_SCALE = Option(
    "time_scale", float, None, "seconds per unit of the time column, 0.001 for milliseconds; default: recognized", 1e-12
)
RECORDED_HZ = Option(
    "recorded_hz", float, None, "rate at which the frames were recorded, in place of the one of their times", 0.1
)

MAX_ROW_HZ, MIN_ROW_HZ = 500.0, 0.2
"""Possible rates of rows that are not frames, such as those of a CAN bus."""
SIMILAR = 3.0
"""Maximum ratio between the spans of a table and of its video, and between most steps and their median, if they decide
about the unit."""

_DATE = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})[ T,]+(\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?)")
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}:\d{2}(?:[.,]\d+)?")


class Times(NamedTuple):
    """seconds: (N,), on any clock. unit: how they were written, a key of `UNITS` or a kind of date."""

    seconds: Array
    unit: str


class TimeCells:
    """The cells of a time column, read one after the other. column: its name, for messages."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.values = array("d")
        self._kinds: set[str] = set()

    def add(self, text: str, where: str) -> float:
        """Add a cell and return its value: a number as it is, dates and times of day in s. Raises UserError, naming
        `where`, for anything else and for dates whose day and month could be exchanged."""
        value, kind = _parse(text.strip(), self.column, where)
        self._kinds.add(kind)
        if len(self._kinds) > 1:
            raise UserError(
                f"{where}: {self.column} is '{text.strip()[:40]}', unlike the rows before; write all times in one way"
            )
        self.values.append(value)
        return value

    def check_order(self, where: str) -> None:
        """Raise UserError unless the last cell is after the one before."""
        if len(self.values) > 1 and self.values[-1] <= self.values[-2]:
            last, previous = (repr(value).removesuffix(".0") for value in (self.values[-1], self.values[-2]))
            raise UserError(f"{where}: {self.column} {last} is not after {previous}")

    def times(self, file: Path, scale: float | None, span: float | None = None) -> Times:
        """The times in s. scale: seconds per unit, if given. span: seconds that the rows should roughly cover, where
        they are not frames, such as the length of a video. Raises UserError if the unit is unclear."""
        values = np.frombuffer(self.values, dtype=np.float64)
        (kind,) = self._kinds or {""}
        if kind:
            if scale is not None and scale != 1.0:
                raise UserError(f"{file}: {self.column} has {kind}, to which --set time_scale={scale:g} does not apply")
            return Times(values, kind)
        if scale is not None:
            return Times(values * scale, SECONDS)
        unit = _recognize(values, self.column, file, span)
        return Times(values * UNITS[unit], unit)


def possible_rates(step: float, low: float, high: float) -> dict[str, float]:
    """The rate, Hz, of each unit of `UNITS` in which rows that are `step` apart have a rate from `low` to `high`."""
    rates = {unit: 1.0 / (step * scale) for unit, scale in UNITS.items()}
    return {unit: rate for unit, rate in rates.items() if low - 1e-6 <= rate <= high + 1e-6}


def unit_notes(units: Iterable[tuple[Path, str]]) -> list[str]:
    """A line for each way in which times were written, other than in seconds. units: by file."""
    files: dict[str, Path] = {}
    counts: Counter[str] = Counter()
    for file, unit in units:
        files.setdefault(unit, file)
        counts[unit] += 1
    return [
        f"The times in {files[unit]}{f' and {count - 1} more files' if count > 1 else ''} were read as {unit}."
        for unit, count in counts.items()
        if unit != SECONDS
    ]


def _parse(text: str, column: str, where: str) -> tuple[float, str]:
    """The value of a cell and its kind: '' for a number."""
    try:
        value: float | None = float(text)
    except ValueError:
        value = None
    if value is not None:
        if not np.isfinite(value):
            raise UserError(f"{where}: {column} is {value}, which is not a finite number")
        return value, ""
    try:
        if _TIME_OF_DAY.fullmatch(text):
            return _time_of_day(text), "times of day"
        date = _DATE.fullmatch(text)
        if date is None:
            return _since_1970(datetime.fromisoformat(text)), "ISO 8601 dates"
        first, second, year = (int(number) for number in date.groups()[:3])
        if first <= 12 and second <= 12 and first != second:
            raise UserError(
                f"{where}: {column} is '{text}', in which day and month could be exchanged; write dates as "
                f"{year}-{second:02d}-{first:02d} or {year}-{first:02d}-{second:02d} (ISO 8601), or times in seconds"
            )
        month_first = second > 12
        day, month = (second, first) if month_first else (first, second)
        kind = f"dates with the {'month' if month_first else 'day'} first"
        return _since_1970(datetime(year, month, day)) + _time_of_day(date[4]), kind
    except UserError:
        raise
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{where}: {column} is '{text[:40]}', expected a number or a date and time such as 2024-05-31T14:05:09.25"
        ) from error


def _time_of_day(text: str) -> float:
    hours, minutes, seconds = text.replace(",", ".").split(":")
    return 3600.0 * int(hours) + 60.0 * int(minutes) + float(seconds)


def _since_1970(moment: datetime) -> float:
    """Seconds since 1970; a moment without a time zone is taken as UTC, since only differences matter."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _recognize(values: Array, column: str, file: Path, span: float | None) -> str:
    """The unit of numbers, or a UserError."""
    steps = np.diff(values)
    steps = steps[steps > 0.0]
    if len(steps) == 0:
        return SECONDS
    step = float(np.median(steps))
    low, high = (MIN_HZ, MAX_HZ) if span is None else (MIN_ROW_HZ, MAX_ROW_HZ)
    rates = {unit: 1.0 / (step * scale) for unit, scale in UNITS.items()}
    regular = float((np.abs(np.log(steps / step)) < np.log(SIMILAR)).mean()) > 0.5
    possible = list(possible_rates(step, low, high))
    if not regular:  # only seconds need no guess
        possible = [unit for unit in possible if unit == SECONDS]
    if len(possible) > 1 and span:
        covered = float(values[-1] - values[0])
        possible = [unit for unit in possible if 1 / SIMILAR <= covered * UNITS[unit] / span <= SIMILAR]
    if len(possible) != 1:
        listed = ", ".join(f"{rate:.3g} Hz in {unit}" for unit, rate in rates.items())
        raise UserError(
            f"{file}: the unit of {column} is unclear: its median step of {step:.6g} is {listed}; set the seconds per "
            "unit, such as --set time_scale=0.001 for milliseconds, or --set recorded_hz=F if the times are wrong"
        )
    return possible[0]
