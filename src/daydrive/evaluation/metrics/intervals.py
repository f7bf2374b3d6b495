"""Confidence intervals of means by bootstrap over drives, because the frames of one drive are not independent.

Cameron, Gelbach, Miller: Bootstrap-Based Improvements for Inference with Clustered Errors (2008), the pairs form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95


class Bootstrap(NamedTuple):
    """drive: (clips,), index of each clip's drive. counts: (draws, drives), how often each drive was drawn."""

    drive: npt.NDArray[np.int64]
    counts: Array

    def means(self, values: npt.ArrayLike) -> Array:
        """The mean of values (clips, ...) over the drawn drives' clips for each draw, (draws, ...)."""
        numbers = np.asarray(values, dtype=np.float64)
        drives = self.counts.shape[1]
        sums = np.zeros((drives, *numbers.shape[1:]))
        np.add.at(sums, self.drive, numbers)
        clips = self.counts @ np.bincount(self.drive, minlength=drives)
        return (self.counts @ sums.reshape(drives, -1)).reshape(-1, *numbers.shape[1:]) / clips.reshape(
            -1, *[1] * (numbers.ndim - 1)
        )


def bootstrap(drives: Sequence[str], draws: int = DRAWS, seed: int = 0) -> Bootstrap | None:
    """Resamples the drives with replacement, as many as there are. drives: the drive of each clip. None for a single
    drive, which has no variance between drives.

    >>> draws = bootstrap(["monday", "monday", "tuesday"])
    >>> draws.means([1.0, 2.0, 6.0]).shape
    (2000,)
    >>> [float(bound) for bound in interval(draws.means([1.0, 2.0, 6.0]))]  # only the first, only the second drive
    [1.5, 6.0]
    >>> bootstrap(["monday", "monday"]) is None
    True
    """
    names, drive = np.unique(np.asarray(drives), return_inverse=True)
    if len(names) < 2:
        return None
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return Bootstrap(drive.astype(np.int64), drawn.astype(np.float64))


def interval(draws: Array) -> tuple[Array, Array]:
    """Lower and upper bound of the central `LEVEL` interval of draws (draws, ...)."""
    edge = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [edge, 1 - edge], axis=0)
    return low, high
