"""Kinds of driving, and how much rarer ones count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.store.store import Store
from daydrive.types import ACTION_NAMES

KINDS = ("standing", *(f"{pace} {way}" for pace in ("slow", "fast") for way in ("left", "straight", "right")))

TURN = 0.5
"""of the root mean square of the clips' steering; a clip that steers less goes straight"""

TOP, FAST, STANDING = 95, 0.5, 0.05
"""Speeds are told from the percentile TOP of them, so that units don't matter: fast is more than FAST of it, standing
less than STANDING."""


def kinds(store: Store, index: ClipIndex) -> npt.NDArray[np.int8]:
    """The place in `KINDS` of each clip, (len(index),).

    From the mean steering and the column `speed` of the store. Where that has no numbers, none is fast, and a clip
    stands where the column `motion` is next to nothing or, without it, where the brake and no throttle is on all along.
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


def rarity(kinds: npt.NDArray[np.int8], strength: float) -> npt.NDArray[np.float32]:
    """What each clip counts, (n,) with mean 1: proportional to (how many are of its kind) ** -strength."""
    counts = np.bincount(kinds)[kinds].astype(np.float64)
    share = counts**-strength
    return (share / share.mean()).astype(np.float32)


def _column(store: Store, index: ClipIndex, name: str) -> npt.NDArray[np.float64] | None:
    """A clip's mean of the column's size; None where the store has no such numbers."""
    if name not in store.schema.names:
        return None
    values = index.means(np.abs(store.read_values(np.arange(store.rows), [name])[name]))
    return None if np.isnan(values).all() else values
