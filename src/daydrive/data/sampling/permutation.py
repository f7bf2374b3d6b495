"""Draws of passes over things numbered 0 … count-1, as pure functions of what they are given.

Any part of a pass is found without the rest of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

SMALL = 2**16
"""Passes of up to so many are drawn at once and kept."""

ROUNDS = 8
"""Even, so that the halves end where they began; four make a permutation that can't be told from a random one as
long as few of its numbers are looked at (Luby & Rackoff 1988)."""


def epoch_permutation(seed: int, epoch: int, count: int, places: Numbers | None = None) -> Numbers:
    """The numbers at `places` (default: all) in the order of an epoch: a permutation of 0 … count-1 given by
    (seed, epoch)."""
    if count <= SMALL:
        whole = _whole(seed, epoch, count)
        return whole if places is None else whole[places]
    return scattered(seed, epoch, count, np.arange(count) if places is None else places)


def scattered(seed: int, epoch: int, count: int, places: Numbers) -> Numbers:
    """As `epoch_order`, number by number: a Feistel network over the next power of two, walked along until the number
    is below `count` (Black & Rogaway 2002), twice on average at most."""
    keys, bits = _keys(seed, epoch), max(2, (count - 1).bit_length())
    found = _network(keys, bits, places.astype(np.uint64))
    outside = np.flatnonzero(found >= count)
    while len(outside):
        found[outside] = _network(keys, bits, found[outside])
        outside = outside[found[outside] >= count]
    return found.astype(np.int64)


def _network(keys: Words, bits: int, numbers: Words) -> Words:
    """A permutation of 0 … 2^bits - 1; the halves differ by a bit where `bits` is odd."""
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
def _whole(seed: int, epoch: int, count: int) -> Numbers:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.flags.writeable = False
    return order


@lru_cache(maxsize=16)
def _keys(seed: int, epoch: int) -> Words:
    return np.random.default_rng([seed, epoch]).integers(2**64, size=ROUNDS, dtype=np.uint64)


@dataclass(frozen=True, eq=False)
class SamplingWeights:
    """How often each of the things 0 … sum(counts)-1 is drawn, relative to others: runs of `counts` (K,) things of the
    same `share` (K,) each."""

    counts: Numbers
    shares: npt.NDArray[np.float64]

    @classmethod
    def each(cls, shares: npt.ArrayLike) -> SamplingWeights:
        found = np.asarray(shares, dtype=np.float64)
        return cls(np.ones(len(found), dtype=np.int64), found)

    @cached_property
    def _ends(self) -> npt.NDArray[np.float64]:
        return np.cumsum(self.counts * self.shares)

    @cached_property
    def _firsts(self) -> Numbers:
        return np.cumsum(self.counts) - self.counts

    def drawn(self, points: Numbers, offset: float) -> Numbers:
        """Draws number `points` out of as many as there are things; a draw rises with its number. offset in [0, 1) is
        all that is random.

        Systematic resampling (Kitagawa 1996): thing i is drawn floor or ceil of its share of all draws times.
        """
        ends = self._ends
        along = (points + offset) * (ends[-1] / int(self._firsts[-1] + self.counts[-1]))
        run = np.minimum(np.searchsorted(ends, along, side="right"), len(ends) - 1)
        begins = ends[run] - self.counts[run] * self.shares[run]
        within = ((along - begins) / self.shares[run]).astype(np.int64)
        return self._firsts[run] + np.clip(within, 0, self.counts[run] - 1)
