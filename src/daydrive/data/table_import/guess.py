"""Guesses of quantities and units from the names and values of columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from daydrive.data.kinematics.clock import MIN_HZ
from daydrive.data.sources.mapped.columns import Array, Table, iso_seconds
from daydrive.data.sources.timestamps import MAX_ROW_HZ, UNITS, possible_rates
from daydrive.errors import UserError, did_you_mean

QUANTITIES = ("time", "steering", "throttle", "brake", "gear", "speed")

FRONT_WHEEL_RADIANS, STEERING_WHEEL_DEGREES = 0.5, 90.0
"""Angles at steering 1, as in the sources kitti and comma2k19."""

SYMBOLS = dict(zip(UNITS, ("s", "ms", "µs", "ns"), strict=True))
SUFFIXES = dict(zip(UNITS, ("sec", "ms", "us", "ns"), strict=True))
"""Words in the names of time columns that state the unit."""

_NAMES: Mapping[str, Mapping[str, int]] = {
    "time": {"timestamp": 4, "time": 4, "stamp": 3, "t": 3, "datetime": 3, "date": 2, "utc": 2, "epoch": 2},
    "steering": {"steering": 4, "steer": 4, "wheel": 1, "angle": 2, "swa": 3, "servo": 2},
    "throttle": {"throttle": 4, "gas": 4, "accelerator": 4, "esc": 2, "pedal": 1},
    "brake": {"brake": 4, "braking": 3},
    "gear": {"gear": 4, "reverse": 1},
    "speed": {"speed": 4, "velocity": 4, "vel": 3, "kmh": 3, "kph": 3, "mph": 3, "mps": 3, "v": 2},
}
"""Weights of the words in a column's name, by quantity."""

_EXCLUDED: Mapping[str, tuple[str, ...]] = {
    "time": ("timezone", "lap", "delta", "dt"),
    "steering": ("rate", "torque", "speed", "velocity", "target", "pitch", "roll", "yaw", "slip"),
    "throttle": ("brake",),
    "brake": ("light", "temperature"),
    "gear": (),
    "speed": ("wind", "engine", "angular", "yaw", "steering", "steer", "limit", "wheel", "fan"),
}


@dataclass(frozen=True)
class Guess:
    """The value is scale · (column - offset). unit, reason: in words. sure: whether nothing else is likely."""

    column: str
    scale: float | None
    unit: str
    reason: str
    sure: bool
    offset: float = 0.0


def guess_columns(table: Table, given: Mapping[str, str]) -> dict[str, Guess]:
    """The guess for each quantity that has one. given: columns that are known, by quantity.

    Raises UserError if a given column does not exist.
    """
    guesses: dict[str, Guess] = {}
    for quantity in QUANTITIES:
        named = given.get(quantity)
        if named is not None and named not in table.names:
            raise UserError(f"{table.file} has no column '{named}' for --{quantity}{did_you_mean(named, table.names)}")
        taken = {guess.column for guess in guesses.values()} | set(given.values())
        column = named or _best(table, quantity, taken)
        if column is None:
            continue
        guess = _time(table, column) if quantity == "time" else _unit(table, quantity, column)
        if guess is not None:
            reason = f"--{quantity}" if named is not None else f"its name; {guess.reason}"
            guesses[quantity] = replace(guess, reason=reason if named is None else f"{reason}; {guess.reason}")
    return guesses


def unusable(table: Table) -> list[str]:
    """A sentence for each column that has the name of a quantity but not a number in every row."""
    found = []
    for name, values in table.numbers.items():
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong) and any(_score(name, quantity) > 1 for quantity in QUANTITIES):
            found.append(f"The column '{name}' is not used: {table.row(int(wrong[0]))} has no finite number.")
    return found


def words(name: str) -> list[str]:
    """The words of a name: `vehicleSpeed_kmh` has vehicle, speed, kmh."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]


def _best(table: Table, quantity: str, taken: set[str]) -> str | None:
    scored = [(_score(name, quantity), -k, name) for k, name in enumerate(table.names) if name not in taken]
    usable = [item for item in scored if item[0] > 1 and (quantity == "time" or _is_finite(table, item[2]))]
    return max(usable)[2] if usable else None


def _is_finite(table: Table, name: str) -> bool:
    return name in table.numbers and bool(np.isfinite(table.numbers[name]).all())


def _score(name: str, quantity: str) -> int:
    parts = words(name)
    if any(part in _EXCLUDED[quantity] for part in parts):
        return 0
    return sum(_NAMES[quantity].get(part, 0) for part in parts)


def _time(table: Table, column: str) -> Guess | None:
    """The unit of a time column by its magnitude (times since 1970) or its intervals; None if it does not increase."""
    if column in table.texts:
        first = iso_seconds(table.texts[column][0])
        return None if first is None else Guess(column, 1.0, "date in ISO 8601", "its format", True)
    values = table.numbers[column]
    steps = np.diff(values)
    if not np.isfinite(values).all() or (steps <= 0.0).any():
        return None
    now = next((unit for unit, scale in UNITS.items() if 3e8 < values[0] * scale < 4e9), None)
    if now:
        return Guess(column, UNITS[now], f"{SYMBOLS[now]} since 1970", "its magnitude", True)
    rates = possible_rates(float(np.median(steps)), MIN_HZ, MAX_ROW_HZ)
    possible = list(rates)
    stated = [unit for unit in possible if SUFFIXES[unit] in words(column)]
    if len(possible) == 1 or stated:
        unit = (stated or possible)[0]
        return Guess(column, UNITS[unit], SYMBOLS[unit], f"{rates[unit]:.4g} rows per second", True)
    if not possible:
        return None
    others = ", ".join(SYMBOLS[unit] for unit in possible[1:])
    return Guess(column, UNITS[possible[0]], SYMBOLS[possible[0]], f"could also be {others}", False)


def _unit(table: Table, quantity: str, column: str) -> Guess:
    values, parts = table.numbers[column], words(column)
    if quantity == "steering":
        return _steering(column, values, parts)
    if quantity == "gear":
        return Guess(column, None, "its sign: forwards, backwards", "its name", False)
    if quantity == "speed":
        return _speed(column, values, parts)
    return _pedal(column, values, parts)


def _steering(column: str, values: Array, parts: list[str]) -> Guess:
    low, high = float(values.min()), float(values.max())
    maximum = max(abs(low), abs(high))
    if low >= 800 and high <= 2200:
        return Guess(column, 1 / 500, "pulse width in µs, centre 1500", "its range", True, 1500.0)
    degrees = any(part in ("deg", "degree", "degrees") for part in parts)
    radians = any(part in ("rad", "radian", "radians") for part in parts)
    if degrees or (maximum > 8.0 and not radians):
        return _angle(column, maximum, np.radians(1.0), "degrees", degrees)
    if radians or maximum > 1.0 + 1e-6:
        return _angle(column, maximum, 1.0, "rad", radians)
    reaches = maximum > 0.6
    doubt = "its range" if reaches else "its range, but it could be rad at the front wheels: then scale 2"
    return Guess(column, 1.0, "share of the largest angle", doubt, reaches)


def _angle(column: str, maximum: float, radians: float, unit: str, stated: bool) -> Guess:
    """An angle of the front wheels if it never exceeds 45 degrees, otherwise of the steering wheel."""
    reason = "its name" if stated else "its range"
    if maximum * radians <= np.radians(45.0):
        return Guess(column, float(radians / FRONT_WHEEL_RADIANS), f"{unit} at the front wheels", reason, stated)
    return Guess(
        column, float(radians / np.radians(STEERING_WHEEL_DEGREES)), f"{unit} at the steering wheel", reason, stated
    )


def _pedal(column: str, values: Array, parts: list[str]) -> Guess:
    low, high = float(values.min()), float(values.max())
    if low >= 800 and high <= 2200:
        return Guess(column, 1 / 500, "pulse width in µs, centre 1500", "its range", True, 1500.0)
    maximum, whole = max(abs(low), abs(high)), bool((values == np.round(values)).all())
    percent = any(part in ("percent", "pct", "perc") for part in parts) or "%" in column
    if percent or 1.0 < maximum <= 100.0 + 1e-6:
        return Guess(column, 0.01, "percent", "its name" if percent else "its range", percent or maximum > 30.0)
    if maximum <= 1.0 + 1e-6:
        return Guess(column, 1.0, "share, negative backwards or braking" if low < 0.0 else "share", "its range", True)
    if whole and maximum <= 255.0:
        return Guess(column, 1 / 255, "of 255", "its range", False)
    return Guess(column, 1 / maximum, f"unknown, scaled by its largest value {maximum:g}", "its range", False)


def _speed(column: str, values: Array, parts: list[str]) -> Guess:
    factors = {"kmh": 1 / 3.6, "kph": 1 / 3.6, "mph": 0.44704, "mps": 1.0}
    joined = "".join(parts)
    for name, factor in factors.items():
        if name in parts or joined.endswith(name):
            unit = {"kph": "km/h", "kmh": "km/h", "mps": "m/s"}.get(name, name)
            return Guess(column, factor, unit, "its name", True)
    if joined.endswith("ms"):
        return Guess(column, 1.0, "m/s", "its name", True)
    if float(np.abs(values).max()) > 45.0:
        return Guess(column, 1 / 3.6, "km/h", "its range, but it could be mph: then scale 0.447", False)
    return Guess(column, 1.0, "m/s", "its range, but it could be km/h: then scale 0.278", False)
