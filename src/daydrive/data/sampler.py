"""Draws of whole passes over things numbered 0 … count-1, as pure functions of what they are given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


def epoch_order(seed: int, epoch: int, count: int) -> Numbers:
    """The order of an epoch: a permutation of 0 … count-1 given by (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def systematic(chances: npt.ArrayLike, offset: float) -> Numbers:
    """As many draws as there are chances (n,), ascending; offset in [0, 1) is all that is random.

    Systematic resampling (Kitagawa 1996): number i is drawn floor or ceil of n · chances[i] / sum times.
    """
    ends = np.cumsum(chances, dtype=np.float64)
    count = len(ends)
    drawn = np.ceil(ends * (count / ends[-1]) - offset)  # how many of the points offset, offset + 1, … lie before
    drawn[-1] = count
    return np.repeat(np.arange(count), np.diff(drawn, prepend=0).astype(np.int64))
