"""What the doctor knows of a drive: its numbers, and with `Looks` (features.py) its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daydrive.data.store.store import DriveInfo, Store

Column = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NOT_NUMBERS = ("drive", "frame", "image", "action")
STANDING = 0.5
"""m/s, below which a car may be standing"""


@dataclass(frozen=True)
class Readings:
    """N neighbouring frames of a drive from row `start` of the store.

    actions (N, 4); values: (N,) each, `time` in s and the source's own; meanings: what the source says of these.
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
        """(N,) m/s by the unit that the source says, negative where the car goes backwards; None where unknown."""
        speed = self.values.get("speed")
        if speed is None or not np.isfinite(speed).any():
            return None
        backwards = np.where(self.actions[:, 3] < 0, -1.0, 1.0)
        return np.abs(speed) * backwards * unit_of_speed(self.meanings.get("speed", ""))

    @property
    def speed_is_known(self) -> bool:
        """Whether the source says its unit."""
        meaning = self.meanings.get("speed", "").lower()
        return any(unit in meaning for unit in ("m/s", "mph", "km/h", "kmh"))


def unit_of_speed(meaning: str) -> float:
    """m/s in one of the unit that a source describes its speed with; m/s where it says no other."""
    said = meaning.lower()
    if "mph" in said:
        return 0.44704
    return 1 / 3.6 if "km/h" in said or "kmh" in said else 1.0


def numeric_columns(store: Store) -> list[str]:
    """`time` and the source's own values, without the scores that daydrive adds."""
    scores = store.metadata.get("scores", {})
    return [
        column.name
        for column in store.schema
        if column.name not in NOT_NUMBERS and column.name not in scores and str(column.type) in ("float", "double")
    ]


def read(store: Store, drive: DriveInfo, first: int, last: int) -> Readings:
    """Frames [first, last) of a drive, without touching the pictures."""
    rows = drive.start + np.arange(first, last)
    values = store.read_values(rows, numeric_columns(store))
    return Readings(
        drive.name, drive.split, drive.start + first, store.hz, store.read_actions(rows).astype(np.float64),
        {name: column.astype(np.float64) for name, column in values.items()}, store.metadata.get("values", {}),
    )  # fmt: skip


def runs(bad: Flags) -> Iterator[tuple[int, int]]:
    """First and one after the last of each run of true."""
    edges = np.flatnonzero(np.diff(bad, prepend=False, append=False))
    yield from ((int(a), int(b)) for a, b in edges.reshape(-1, 2))


def longest_run(bad: Flags) -> tuple[int, int]:
    """The longest one; (0, 0) where there is none."""
    return max(runs(bad), key=lambda run: run[1] - run[0], default=(0, 0))
