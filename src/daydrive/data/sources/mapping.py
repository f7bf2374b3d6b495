"""Recordings whose columns have names, units and signs of their own: which is which, by what factor."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.errors import UserError
from daydrive.types import ACTION_NAMES

Array = npt.NDArray[np.float64]

QUANTITIES = (*ACTION_NAMES, "speed")
NEUTRAL = (0.0, 0.0, 0.0, 1.0)
"""the action that stands where nobody recorded one"""

UNKNOWN = "none"
"""what an action is made from that nobody recorded"""

VALUES = {
    **{f"recorded_{name}": f"{name} as recorded, mean up to the next frame" for name in ACTION_NAMES[:3]},
    "recorded_gear": "gear as recorded, the last one before the next frame",
    "speed": "as recorded, times --set speed_scale where that is given; mean up to the next frame",
}
"""Columns of the store that any such recording has, NaN where it has none of that."""

_RANGES = {"steering": (-1.0, 1.0), "throttle": (0.0, 1.0), "brake": (0.0, 1.0)}
_SIGNS = {
    "steering": "positive to the right",
    "throttle": "positive forwards",
    "brake": "positive slows down",
    "gear": "1 forwards, -1 backwards, 0 neutral",
}


def mapping_options(column: str) -> tuple[Option, ...]:
    """`--set steering=NAME` and `--set steering_scale=F` for each quantity. column: what a NAME is called there."""
    return tuple(
        option
        for name in QUANTITIES
        for option in (
            Option(name, str, None, f"the {column} that holds the {name}; default: the one of that name"),
            Option(f"{name}_scale", float, None, "factor to the range of the action, negative to turn its sign"),
        )
    )


@dataclass(frozen=True)
class ColumnMapping:
    """columns: which one holds each quantity, for those that there are. scales: the factors that were given."""

    columns: Mapping[str, str]
    scales: Mapping[str, float]

    @classmethod
    def choose(cls, options: Options, known: Sequence[str], guessed: Mapping[str, str], where: str) -> ColumnMapping:
        """What the options say, else what was guessed from the names.

        known: names of columns. UserError naming `where` and what is there for a name that isn't, or no action at all.
        """
        there = ", ".join(known[:40]) or "none"
        columns, scales = {}, {}
        for name in QUANTITIES:
            given, scale = options[name], options[f"{name}_scale"]
            if given is not None and given not in known:
                near = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
                hint = f"did you mean '{near[0]}'?" if near else f"there are {there}"
                raise UserError(f"{where} has no column '{given}' for --set {name}={given}; {hint}")
            if given is not None or name in guessed:
                columns[name] = given if given is not None else guessed[name]
            if scale is None:
                continue
            if name not in columns:
                raise UserError(
                    f"--set {name}_scale={scale:g}: {where} has no column for the {name}; there are {there}"
                )
            if scale == 0.0 or not math.isfinite(scale):
                raise UserError(f"--set {name}_scale={scale:g} has to be a number other than 0")
            scales[name] = scale
        if not set(ACTION_NAMES) & set(columns):
            raise UserError(f"{where} has no column called {', '.join(ACTION_NAMES)}; it has {there}; "
                            "say which one is which with --set steering=NAME, --set throttle=NAME")  # fmt: skip
        return cls(columns, scales)

    def actions(self, recorded: Mapping[str, Array], row: Callable[[int], str]) -> Array:
        """Actions (N, 4) in the range of `Frame.action`, one for each row of what was recorded, (N,) by quantity.

        Throttle below 0 is brake where no column holds the brake. A quantity that no column holds is `NEUTRAL`.
        UserError naming `row` where a value without a factor leaves the range; with one it is clipped.
        """
        made = np.tile(np.array(NEUTRAL), (len(next(iter(recorded.values()))), 1))
        for place, name in enumerate(("steering", "throttle", "brake")):
            if name in self.columns:
                made[:, place] = self._ranged(name, recorded[name], row)
        if "throttle" in self.columns and "brake" not in self.columns:
            made[:, 1], made[:, 2] = pedals(made[:, 1])
        if "gear" in self.columns:
            made[:, 3] = np.sign(recorded["gear"] * self.scales.get("gear", 1.0))
        return made

    def values(self, recorded: Mapping[str, Array]) -> Array:
        """The columns of `VALUES`, (N, 5)."""
        count = len(next(iter(recorded.values())))
        own = {**recorded}
        if "speed" in own:
            own["speed"] = own["speed"] * self.scales.get("speed", 1.0)
        return np.column_stack([own.get(name, np.full(count, np.nan)) for name in QUANTITIES])

    def made_from(self) -> dict[str, str]:
        """What each action comes from, for `Drive.made_from`."""
        made = {name: self.columns.get(name, UNKNOWN) for name in ACTION_NAMES}
        if "throttle" in self.columns and "brake" not in self.columns:
            made["brake"] = f"{made['throttle']} below 0"
        return made

    def _ranged(self, name: str, recorded: Array, row: Callable[[int], str]) -> Array:
        low, high = _RANGES[name]
        if name == "throttle" and "brake" not in self.columns:
            low = -1.0
        if name in self.scales:
            return np.clip(recorded * self.scales[name], low, high)
        outside = np.flatnonzero((recorded < low - 1e-6) | (recorded > high + 1e-6))
        if len(outside):
            first = int(outside[0])
            raise UserError(f"{row(first)}: {self.columns[name]} is {recorded[first]:g}, outside [{low:g}, {high:g}] "
                            f"of the {name}; give the factor to that range as --set {name}_scale=F")  # fmt: skip
        return np.clip(recorded, low, high)


def pedals(throttle: Array) -> tuple[Array, Array]:
    """One pedal in [-1, 1] → throttle and brake, both in [0, 1]."""
    return np.maximum(throttle, 0.0), np.maximum(-throttle, 0.0)


def up_to_next(
    actions: Array, values: Array, times: Array, chosen: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], Array]:
    """Rows that hold until the next, (N, 4) and (N, D) at `times`, as means from each chosen one to the next.

    The gear is the last one; where `values` are those of `VALUES` so is theirs.
    """
    count = actions.shape[1]
    means = clock.held_mean(np.hstack([actions, values]), times, chosen)
    last = np.append(np.maximum(chosen[1:] - 1, chosen[:-1]), chosen[-1])
    means[:, 3] = actions[last, 3]
    if values.shape[1] == len(VALUES):
        means[:, count + 3] = values[last, 3]
    return means[:, :count].astype(np.float32), means[:, count:]


def describe_mapping(options: Options, averaged: str) -> dict[str, dict[str, str]]:
    """Metadata of such actions; which column holds what is said for each drive, in its `made_from`.

    averaged: how rows became frames.
    """
    described = {}
    for name in ACTION_NAMES:
        scale = options[f"{name}_scale"]
        converted = f"recorded_{name}" if scale is None else f"{scale:g} * recorded_{name}, clipped"
        if name == "gear":
            converted = f"sign of {converted.removesuffix(', clipped')}"
        if name == "brake":
            converted += "; where nothing but a throttle is recorded, what of that is below 0, turned round"
        scale_of = "{-1, 0, 1}" if name == "gear" else f"[{_RANGES[name][0]:g}, {_RANGES[name][1]:g}]"
        converted += f"; {averaged}; {NEUTRAL[ACTION_NAMES.index(name)]:g} where it was not recorded"
        described[name] = action("as recorded", _SIGNS[name], scale_of, converted)
    return described


def own_values(values: Any) -> dict[str, float]:
    """A row of `VALUES` by name."""
    return dict(zip(VALUES, map(float, values), strict=True))
