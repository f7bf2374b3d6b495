"""Weights of clips by the rarity of their kind of driving."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.store.store import Store
from daydrive.types import ACTION_NAMES

KINDS = (
    "standing",
    *(f"{pace} {direction}" for pace in ("slow", "fast") for direction in ("left", "straight", "right")),
)

TURN = 0.5
"""Threshold as a fraction of the root mean square of the clips' steering; clips below it count as straight."""

TOP, FAST, STANDING = 95, 0.5, 0.05
"""Speeds are compared with their percentile TOP, independent of the unit: fast is above the fraction FAST of it,
standing below STANDING."""


def kinds(store: Store, index: ClipIndex) -> npt.NDArray[np.int8]:
    """Index into `KINDS` of each clip, (len(index),).

    The kind depends on the mean steering and the column `speed` of the store. Without speeds, no clip is fast, and a
    clip is standing if the column `motion` is almost 0 or, without it, if it brakes without throttle throughout.
    """
    actions = dict(zip(ACTION_NAMES, store.read_actions(np.arange(store.rows)).T, strict=True))
    steering = index.means(actions["steering"])
    turns = np.sign(steering) * (np.abs(steering) > TURN * np.sqrt(np.mean(steering**2)))
    speed, motion = (_column(store, index, name) for name in ("speed", "motion"))
    standing = index.means((actions["throttle"] == 0) & (actions["brake"] > 0)) == 1
    fast = np.zeros(len(index), dtype=bool)
    for pace in (motion, speed):
        if pace is not None:
            share = pace / max(np.nanpercentile(pace, TOP), np.finfo(np.float64).tiny)
            standing = share < STANDING
    if speed is not None:
        fast = share > FAST
    return np.where(standing, 0, 2 + turns + 3 * fast).astype(np.int8)


def rarity_weights(kinds: npt.NDArray[np.int8], strength: float) -> npt.NDArray[np.float32]:
    """Weight of each clip, (n,), mean 1, proportional to (number of clips of its kind) ** -strength."""
    counts = np.bincount(kinds)[kinds].astype(np.float64)
    share = counts**-strength
    return (share / share.mean()).astype(np.float32)


def _column(store: Store, index: ClipIndex, name: str) -> npt.NDArray[np.float64] | None:
    """Mean absolute value of the column in each clip; None if the store has no such values."""
    if name not in store.schema.names:
        return None
    values = index.means(np.abs(store.read_values(np.arange(store.rows), [name])[name]))
    return None if np.isnan(values).all() else values
