"""Mapping of a recording's columns, with arbitrary names, units and signs, to actions."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.errors import UserError
from daydrive.types import ACTION_NAMES

Array = npt.NDArray[np.float64]

MAX_LISTED = 12
"""Columns that an error message names."""

QUANTITIES = (*ACTION_NAMES, "speed")
NEUTRAL_ACTION = (0.0, 0.0, 0.0, 1.0)
"""The action used for quantities that were not recorded."""

UNKNOWN = "none"
"""Entry in `Drive.made_from` for an action that was not recorded."""

VALUES = {
    **{f"recorded_{name}": f"{name} as recorded, mean up to the next frame" for name in ACTION_NAMES[:3]},
    "recorded_gear": "gear as recorded, the last one before the next frame",
    "speed": "as recorded, times --set speed_scale where that is given; mean up to the next frame",
}
"""Store columns of every mapped recording; NaN if a quantity was not recorded."""

_RANGES = {"steering": (-1.0, 1.0), "throttle": (0.0, 1.0), "brake": (0.0, 1.0)}
_SIGNS = {
    "steering": "positive to the right",
    "throttle": "positive forwards",
    "brake": "positive slows down",
    "gear": "1 forwards, -1 backwards, 0 neutral",
}


def mapping_options(column: str) -> tuple[Option, ...]:
    """`--set steering=NAME` and `--set steering_scale=F` for each quantity. column: the format's term for a column."""
    return tuple(
        option
        for name in QUANTITIES
        for option in (
            Option(name, str, None, f"{column} with the {name}; default: the one of that name"),
            Option(f"{name}_scale", float, None, "factor to the action's range, negative to invert the sign"),
        )
    )


@dataclass(frozen=True)
class ColumnMapping:
    """columns: column name by quantity, for the recorded ones. scales: factor by quantity, for those given. gear_codes:
    gear by the code that the recording uses for it; empty where the gear is the sign of its column."""

    columns: Mapping[str, str]
    scales: Mapping[str, float]
    gear_codes: Mapping[float, float] = field(default_factory=dict)

    @classmethod
    def from_options(
        cls, options: Options, known: Sequence[str], guessed: Mapping[str, str], where: str
    ) -> ColumnMapping:
        """The mapping given by the options, and by `guessed` for quantities without an option.

        known: names of all columns. Raises UserError, naming `where` and the known columns, for an unknown column or if
        no action is mapped.
        """
        available = ", ".join(known[:MAX_LISTED]) or "none"
        available += f" and {len(known) - MAX_LISTED} more" if len(known) > MAX_LISTED else ""
        columns, scales = {}, {}
        for name in QUANTITIES:
            given, scale = options[name], options[f"{name}_scale"]
            if given is not None and given not in known:
                near = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
                hint = f"did you mean '{near[0]}'?" if near else f"its columns: {available}"
                raise UserError(f"{where} has no column '{given}' for --set {name}={given}; {hint}")
            if given is not None or name in guessed:
                columns[name] = given if given is not None else guessed[name]
            if scale is None:
                continue
            if name not in columns:
                raise UserError(
                    f"--set {name}_scale={scale:g}: {where} has no column for the {name}; its columns: {available}"
                )
            if scale == 0.0 or not math.isfinite(scale):
                raise UserError(f"--set {name}_scale={scale:g} must be finite and not 0")
            scales[name] = scale
        if not set(ACTION_NAMES) & set(columns):
            raise UserError(f"{where} has no column called {', '.join(ACTION_NAMES)}; its columns: {available}; "
                            "map them with --set steering=NAME, --set throttle=NAME")  # fmt: skip
        return cls(columns, scales)

    def actions(self, recorded: Mapping[str, Array], row: Callable[[int], str]) -> Array:
        """Actions (N, 4) in the ranges of `Frame.action` from recorded values, (N,) by quantity.

        Without a brake column, negative throttle is brake. Quantities without a column are those of `NEUTRAL_ACTION`.
        Scaled values are clipped to their range; an unscaled value out of range raises a UserError with the location
        that `row(index)` returns.
        """
        result = np.tile(np.array(NEUTRAL_ACTION), (len(next(iter(recorded.values()))), 1))
        for index, name in enumerate(("steering", "throttle", "brake")):
            if name in self.columns:
                result[:, index] = self._to_range(name, recorded[name], row)
        if "throttle" in self.columns and "brake" not in self.columns:
            result[:, 1], result[:, 2] = pedals(result[:, 1])
        if "gear" in self.columns:
            result[:, 3] = self._gear(recorded["gear"], row)
        return result

    def values(self, recorded: Mapping[str, Array]) -> Array:
        """The columns of `VALUES`, (N, 5)."""
        count = len(next(iter(recorded.values())))
        columns = {**recorded}
        if "speed" in columns:
            columns["speed"] = columns["speed"] * self.scales.get("speed", 1.0)
        return np.column_stack([columns.get(name, np.full(count, np.nan)) for name in QUANTITIES])

    def made_from(self) -> dict[str, str]:
        """The column of each action, for `Drive.made_from`."""
        made_from = {name: self.columns.get(name, UNKNOWN) for name in ACTION_NAMES}
        if "throttle" in self.columns and "brake" not in self.columns:
            made_from["brake"] = f"{made_from['throttle']} below 0"
        return made_from

    def _gear(self, recorded: Array, row: Callable[[int], str]) -> Array:
        if not self.gear_codes:
            return np.sign(recorded * self.scales.get("gear", 1.0))
        unknown = np.flatnonzero(~np.isin(recorded, list(self.gear_codes)))
        if len(unknown):
            first = int(unknown[0])
            codes = ", ".join(f"{code:g}" for code in self.gear_codes)
            raise UserError(f"{row(first)}: {self.columns['gear']} is {recorded[first]:g}, not one of {codes}")
        return np.array([self.gear_codes[code] for code in recorded.tolist()])

    def _to_range(self, name: str, recorded: Array, row: Callable[[int], str]) -> Array:
        low, high = _RANGES[name]
        if name == "throttle" and "brake" not in self.columns:
            low = -1.0
        if name in self.scales:
            return np.clip(recorded * self.scales[name], low, high)
        outside = np.flatnonzero((recorded < low - 1e-6) | (recorded > high + 1e-6))
        if len(outside):
            first = int(outside[0])
            raise UserError(f"{row(first)}: {self.columns[name]} is {recorded[first]:g}, outside [{low:g}, {high:g}] "
                            f"of the {name}; set a factor to that range with --set {name}_scale=F")  # fmt: skip
        return np.clip(recorded, low, high)


def pedals(throttle: Array) -> tuple[Array, Array]:
    """Splits a combined pedal in [-1, 1] into throttle and brake, both in [0, 1]."""
    return np.maximum(throttle, 0.0), np.maximum(-throttle, 0.0)


def interval_means(
    actions: Array, values: Array, times: Array, chosen: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], Array]:
    """Means of actions (N, 4) and values (N, D) at `times` (N,) s from each chosen row to the next, (K, 4) and (K, D).

    Each row holds until the next. For the gear, also that in `values` if they are the columns of `VALUES`, the last row
    before the next chosen one is used instead of the mean.
    """
    count = actions.shape[1]
    means = clock.held_mean(np.hstack([actions, values]), times, chosen)
    last = np.append(np.maximum(chosen[1:] - 1, chosen[:-1]), chosen[-1])
    means[:, 3] = actions[last, 3]
    if values.shape[1] == len(VALUES):
        means[:, count + 3] = values[last, 3]
    return means[:, :count].astype(np.float32), means[:, count:]


def describe_mapping(options: Options, averaged: str) -> dict[str, dict[str, str]]:
    """Metadata of mapped actions; the columns are listed for each drive in its `made_from`.

    averaged: how rows are averaged to frames.
    """
    described = {}
    for name in ACTION_NAMES:
        scale = options[f"{name}_scale"]
        converted = f"recorded_{name}" if scale is None else f"{scale:g} * recorded_{name}, clipped"
        if name == "gear":
            converted = f"sign of {converted.removesuffix(', clipped')}"
        if name == "brake":
            converted += "; if only a throttle is recorded, its negative part, negated"
        scale_of = "{-1, 0, 1}" if name == "gear" else f"[{_RANGES[name][0]:g}, {_RANGES[name][1]:g}]"
        converted += f"; {averaged}; {NEUTRAL_ACTION[ACTION_NAMES.index(name)]:g} where it was not recorded"
        described[name] = action("as recorded", _SIGNS[name], scale_of, converted)
    return described


def named_values(values: Any) -> dict[str, float]:
    """A row of the columns of `VALUES` by name."""
    return dict(zip(VALUES, map(float, values), strict=True))
