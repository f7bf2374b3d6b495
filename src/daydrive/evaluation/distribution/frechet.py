"""Fréchet distance between Gaussians, and the moments of feature vectors in constant memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daydrive.errors import UserError
from daydrive.evaluation.metrics.intervals import Array


class Gaussian(NamedTuple):
    """mean: (D,). factor: (D, R), with covariance = factor @ factor.T of rank R."""

    mean: Array
    factor: Array


def gaussian(mean: Array, covariance: Array) -> Gaussian:
    """Factorizes a Gaussian. mean: (D,). covariance: (D, D), symmetric, possibly singular. ValueError for NaN or
    infinity."""
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("a Gaussian needs finite values; its mean or covariance contains NaN or infinity")
    values, vectors = np.linalg.eigh(covariance)
    known = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return Gaussian(mean, vectors[:, known] * np.sqrt(values[known]))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|² + tr(A + B - 2 (A^½ B A^½)^½), in squared units of the features, at least 0.

    The last trace is the sum of the singular values of F_a^T F_b for any factors with F F^T = A, B. This avoids the
    square root of a nearly singular product, and the distance of equal Gaussians is 0 up to rounding.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"two Gaussians of equal dimension are needed, not of {len(a.mean)} and {len(b.mean)}")
    shared = np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum() if a.factor.size and b.factor.size else 0.0
    spread = np.square(a.factor).sum() + np.square(b.factor).sum() - 2.0 * shared
    return max(0.0, float(np.square(a.mean - b.mean).sum() + spread))


class Moments:
    """The number, sum and sum of outer products of feature vectors, in constant memory: the sum of the outer products
    of all rows (1, features…), float64 (D + 1, D + 1).

    Features are rounded to multiples of `step`, a power of two. Sums of such numbers are exact as long as they fit into
    the 53 bits of a float64, so they are identical for any order and number of processes: for features below 2^15 steps
    in magnitude, up to eight million samples.
    """

    def __init__(self, dimensions: int, step: float) -> None:
        self.sums, self.step = np.zeros((dimensions + 1, dimensions + 1)), step

    @property
    def count(self) -> int:
        return int(self.sums[0, 0])

    def add(self, features: Array) -> None:
        """Adds features (N, D). UserError if a value is not finite."""
        if not np.isfinite(features).all():
            raise UserError("features contain NaN or infinity, so there is no Fréchet distance; check the weights")
        rounded = np.round(np.asarray(features, dtype=np.float64) / self.step) * self.step
        rows = np.concatenate((np.ones((len(rounded), 1)), rounded), axis=1)
        self.sums += rows.T @ rows

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance, singular if there are fewer samples than dimensions. ValueError for fewer than
        two samples."""
        count = self.count
        if count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, not {count}")
        mean = self.sums[0, 1:] / count
        return gaussian(mean, (self.sums[1:, 1:] - count * np.outer(mean, mean)) / (count - 1))
