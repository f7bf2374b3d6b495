"""The numeric columns of a drive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daydrive.data.store.store import DriveInfo, Store

Column = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NON_NUMERIC = ("drive", "frame", "image", "action")
STANDING = 0.5
"""Speed in m/s below which a car may be standing."""
COASTING_SECONDS = 1.0
"""How long a car without a recorded speed is taken to move after its throttle."""


@dataclass(frozen=True)
class Readings:
    """Actions and values of N consecutive frames of a drive, from row `start` of the store.

    actions (N, 4). values: (N,) each, `time` in s and those of the source. meanings: the source's descriptions of them.
    """

    name: str
    split: str
    start: int
    hz: float
    actions: Column
    values: Mapping[str, Column]
    meanings: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def steering(self) -> Column:
        return self.actions[:, 0]

    @property
    def speed(self) -> Column | None:
        """(N,) m/s, converted from the unit in the source's description, negative in reverse; None if unknown."""
        speed = self.values.get("speed")
        if speed is None or not np.isfinite(speed).any():
            return None
        backwards = np.where(self.actions[:, 3] < 0, -1.0, 1.0)
        return np.abs(speed) * backwards * unit_of_speed(self.meanings.get("speed", ""))

    @property
    def moving(self) -> Flags:
        """(N,) whether the car moves: by its speed, or else whether there was throttle in the last `COASTING_SECONDS`;
        everywhere if neither was recorded."""
        if self.speed is not None:
            return np.asarray(np.abs(self.speed) > STANDING)
        throttle = self.actions[:, 1] > 0
        if not throttle.any():
            return np.ones(len(self), dtype=bool)
        window = np.ones(max(1, round(COASTING_SECONDS * self.hz)))
        return np.convolve(throttle, window)[: len(self)] > 0

    @property
    def speed_is_known(self) -> bool:
        """Whether the source's description of the speed states its unit."""
        meaning = self.meanings.get("speed", "").lower()
        return any(unit in meaning for unit in ("m/s", "mph", "km/h", "kmh"))


def unit_of_speed(meaning: str) -> float:
    """Factor from the unit in the description of a speed to m/s; 1 without a known unit."""
    text = meaning.lower()
    if "mph" in text:
        return 0.44704
    return 1 / 3.6 if "km/h" in text or "kmh" in text else 1.0


def numeric_columns(store: Store) -> list[str]:
    """Names of the float columns: `time` and the values of the source, without scores added by daydrive."""
    scores = store.metadata.get("scores", {})
    return [
        column.name
        for column in store.schema
        if column.name not in NON_NUMERIC and column.name not in scores and str(column.type) in ("float", "double")
    ]


def read_frames(store: Store, drive: DriveInfo, first: int, last: int) -> Readings:
    """Read frames [first, last) of a drive without the images."""
    rows = drive.start + np.arange(first, last)
    values = store.read_values(rows, numeric_columns(store))
    return Readings(
        drive.name, drive.split, drive.start + first, store.hz, store.read_actions(rows).astype(np.float64),
        {name: column.astype(np.float64) for name, column in values.items()}, store.metadata.get("values", {}),
    )  # fmt: skip


def intervals(flags: Flags) -> Iterator[tuple[int, int]]:
    """Yield the half-open interval [first, end) of each sequence of consecutive true values."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    yield from ((int(a), int(b)) for a, b in edges.reshape(-1, 2))


def longest_interval(flags: Flags) -> tuple[int, int]:
    """The longest interval of true values, [first, end); (0, 0) if there is none."""
    return max(intervals(flags), key=lambda interval: interval[1] - interval[0], default=(0, 0))
