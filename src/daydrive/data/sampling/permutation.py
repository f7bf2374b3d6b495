"""Random permutations and weighted sampling of 0 … count-1 as pure functions of seed and epoch.

Any part of an epoch can be computed without the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

CACHE_LIMIT = 2**16
"""Permutations up to this size are computed at once and cached."""

ROUNDS = 8
"""Even, so that both halves return to their positions. Four rounds give a permutation that is indistinguishable from a
random one as long as few of its values are observed (Luby & Rackoff 1988)."""


def epoch_permutation(seed: int, epoch: int, count: int, positions: Numbers | None = None) -> Numbers:
    """Values at `positions` (default: all) of the permutation of 0 … count-1 that is given by (seed, epoch)."""
    if count <= CACHE_LIMIT:
        permutation = _cached_permutation(seed, epoch, count)
        return permutation if positions is None else permutation[positions]
    return feistel_permutation(seed, epoch, count, np.arange(count) if positions is None else positions)


def feistel_permutation(seed: int, epoch: int, count: int, positions: Numbers) -> Numbers:
    """As `epoch_permutation`, value by value: a Feistel network over the next power of two, iterated until the value is
    below `count` (cycle walking, Black & Rogaway 2002), at most twice on average."""
    keys, bits = _keys(seed, epoch), max(2, (count - 1).bit_length())
    values = _network(keys, bits, positions.astype(np.uint64))
    outside = np.flatnonzero(values >= count)
    while len(outside):
        values[outside] = _network(keys, bits, values[outside])
        outside = outside[values[outside] >= count]
    return values.astype(np.int64)


def _network(keys: Words, bits: int, numbers: Words) -> Words:
    """A permutation of 0 … 2^bits - 1; the halves differ by one bit if `bits` is odd."""
    right_bits = np.uint64(bits // 2)
    left_bits = np.uint64(bits) - right_bits
    left, right = numbers >> right_bits, numbers & ((np.uint64(1) << right_bits) - np.uint64(1))
    for key in keys:
        mask = (np.uint64(1) << left_bits) - np.uint64(1)
        left, right = right, left ^ (_mixed(right ^ key) & mask)
        left_bits, right_bits = right_bits, left_bits
    return (left << right_bits) | right


def _mixed(words: Words) -> Words:
    """The finalizer of splitmix64 (Steele, Lea & Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


@lru_cache(maxsize=4)
def _cached_permutation(seed: int, epoch: int, count: int) -> Numbers:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=16)
def _keys(seed: int, epoch: int) -> Words:
    return np.random.default_rng([seed, epoch]).integers(2**64, size=ROUNDS, dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class SamplingWeights:
    """Relative sampling frequency of the items 0 … sum(counts)-1, in K groups of `counts` (K,) consecutive items with
    the same weight `shares` (K,)."""

    counts: Numbers
    shares: npt.NDArray[np.float64]

    @classmethod
    def each(cls, shares: npt.ArrayLike) -> SamplingWeights:
        """One weight per item."""
        values = np.asarray(shares, dtype=np.float64)
        return cls(np.ones(len(values), dtype=np.int64), values)

    @cached_property
    def _ends(self) -> npt.NDArray[np.float64]:
        return np.cumsum(self.counts * self.shares)

    @cached_property
    def _firsts(self) -> Numbers:
        return np.cumsum(self.counts) - self.counts

    def sample(self, points: Numbers, offset: float) -> Numbers:
        """Items of the draws with numbers `points`, out of as many draws as there are items, in ascending order.

        Systematic resampling (Kitagawa 1996): item i is drawn floor or ceil of its share of all draws. offset: in
        [0, 1), the only random quantity.
        """
        ends = self._ends
        along = (points + offset) * (ends[-1] / int(self._firsts[-1] + self.counts[-1]))
        group = np.minimum(np.searchsorted(ends, along, side="right"), len(ends) - 1)
        starts = ends[group] - self.counts[group] * self.shares[group]
        within = ((along - starts) / self.shares[group]).astype(np.int64)
        return self._firsts[group] + np.clip(within, 0, self.counts[group] - 1)
