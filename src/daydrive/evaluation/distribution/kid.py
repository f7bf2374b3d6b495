"""Kernel distance between two sets of feature vectors: the unbiased estimate of KID, with an error over clips.

Bińkowski, Sutherland, Arbel, Gretton: Demystifying MMD GANs (2018). The squared maximum mean discrepancy with the
kernel (x·y / D + 1)³ needs no Gaussian, and its estimate is not biased by the number of samples; it may be slightly
negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.evaluation.metrics.intervals import Array

SUBSETS = 100
"""Number of random halves of the clips from which the error is estimated."""
GROUPS = 16
"""Maximum number of groups of neighbouring clips, mostly whole drives, that are in a half or not."""
LIMIT = 2048
"""Maximum number of samples of a set."""

Integers = npt.NDArray[np.int64]


class Samples:
    """Feature vectors (N, D), each with the index of its clip and its position there, in bounded memory.

    If there are more than `LIMIT`, a pseudorandom subset remains that depends on these numbers alone: on neither the
    order nor the division over processes, and it has the same frames in each set.
    """

    def __init__(self, dimensions: int) -> None:
        self.keys: Integers = np.empty((0, 2), np.int64)
        self.values: npt.NDArray[np.float32] = np.empty((0, dimensions), np.float32)

    def add(self, keys: Integers, values: npt.NDArray[np.float32]) -> None:
        """keys: (N, 2), clip and position. values: (N, D), finite."""
        if len(self.keys) == LIMIT:
            needed = _priorities(keys) < _priorities(self.keys[-1:])
            keys, values = keys[needed], values[needed]
        if len(keys):
            all_keys, all_values = np.concatenate((self.keys, keys)), np.concatenate((self.values, values))
            first = np.argsort(_priorities(all_keys))[:LIMIT]
            self.keys, self.values = all_keys[first], all_values[first]


def _priorities(keys: Integers) -> npt.NDArray[np.uint64]:
    """A pseudorandom number for each clip and position (SplitMix64 of Steele, Lea, Flood 2014)."""
    x = (keys[:, 0].astype(np.uint64) << np.uint64(24)) + keys[:, 1].astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def kernel(x: Array, y: Array) -> Array:
    """(M, D), (N, D) → (M, N): the polynomial kernel of degree 3."""
    product = x @ y.T / x.shape[1] + 1.0
    return np.asarray(product * product * product)


class Distance(NamedTuple):
    """value: in the units of the kernel. error: its standard error over groups of clips, None if there are too few."""

    value: float
    error: float | None


class SetSums(NamedTuple):
    """Of one set, by group and band. counts: (G, B), samples. within: (G, B, G, B), see `pair_sums`."""

    counts: Array
    within: Array


def set_sums(samples: Samples, clips: int, ends: Integers) -> SetSums:
    """clips: number of clips. ends: (B,), ends of the bands of positions."""
    counts = _labels(samples, clips, ends).sum(axis=0).reshape(_groups(clips), len(ends))
    return SetSums(counts, pair_sums(samples, samples, clips, ends))


def pair_sums(x: Samples, y: Samples, clips: int, ends: Integers) -> Array:
    """The kernel summed over pairs of a sample of x and one of y by their groups and bands, (G, B, G, B); within one
    set without the pairs of a sample with itself."""
    product = kernel(*(samples.values[_order(samples)].astype(np.float64) for samples in (x, y)))
    if x is y:
        np.fill_diagonal(product, 0.0)
    shape = (_groups(clips), len(ends))
    return (_labels(x, clips, ends).T @ product @ _labels(y, clips, ends)).reshape(*shape, *shape)


def _groups(clips: int) -> int:
    """An even number, or 1 for a single clip."""
    groups = min(GROUPS, clips)
    return max(1, groups - groups % 2)


def _order(samples: Samples) -> Integers:
    return np.lexsort(samples.keys.T[::-1])


def _labels(samples: Samples, clips: int, ends: Integers) -> Array:
    """(N, groups x bands), 1 at the group and the band of each sample, in ascending order of the keys."""
    clip, position = samples.keys[_order(samples)].T
    label = (clip * _groups(clips) // clips) * len(ends) + np.searchsorted(ends, position, side="right")
    return np.asarray(np.eye(_groups(clips) * len(ends))[label])


def kernel_distance(x: SetSums, y: SetSums, between: Array, bands: list[int]) -> Distance | None:
    """The unbiased squared maximum mean discrepancy of the samples in these bands; None for fewer than two samples.

    between: `pair_sums` of the two sets. The error is the standard deviation over random halves of the groups of
    clips, which equals the standard error for all of them (the jackknife with half of the groups deleted; Shao and Wu
    1989).
    """
    counts = np.stack([each.counts[:, bands].sum(axis=1) for each in (x, y)])
    within = np.stack([each.within[:, bands][..., bands].sum(axis=(1, 3)) for each in (x, y)])
    between = between[:, bands][..., bands].sum(axis=(1, 3))
    groups = counts.shape[1]
    value = _unbiased(counts, within, between, np.ones(groups))
    if value is None:
        return None
    random = np.random.default_rng(0)
    halves = [np.isin(np.arange(groups), random.permutation(groups)[: groups // 2]) for _ in range(SUBSETS)]
    of_halves = [_unbiased(counts, within, between, half.astype(np.float64)) for half in halves]
    known = [each for each in of_halves if each is not None]
    error = float(np.std(known)) if groups > 1 and len(known) == SUBSETS else None
    return Distance(value, error)


def _unbiased(counts: Array, within: Array, between: Array, chosen: Array) -> float | None:
    """counts: (2, G); within: (2, G, G); between: (G, G); chosen: (G,), 1 for the groups of the subset."""
    m, n = counts @ chosen
    if min(m, n) < 2:
        return None
    x, y = (chosen @ sums @ chosen for sums in within)
    return float(x / (m * (m - 1)) + y / (n * (n - 1)) - 2 * (chosen @ between @ chosen) / (m * n))
