"""How far two sets of features are apart: the Fréchet distance of the Gaussians fitted to them.

Dowson and Landau, The Fréchet distance between multivariate normal distributions (1982); as a measure of images that
are made, Heusel et al. (2017).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from daydrive.errors import UserError
from daydrive.evaluation.metrics.intervals import Array


class Gaussian(NamedTuple):
    """mean: (D,). factor: (D, R), R the rank of the covariance, which is factor @ factor.T."""

    mean: Array
    factor: Array


def gaussian(mean: Array, covariance: Array) -> Gaussian:
    """mean: (D,). covariance: (D, D), symmetric; it may be singular. ValueError where a value is not finite."""
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("a Gaussian needs finite values; its mean or covariance holds NaN or infinity")
    values, vectors = np.linalg.eigh(covariance)
    known = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return Gaussian(mean, vectors[:, known] * np.sqrt(values[known]))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|² + tr(A + B - 2 (A^½ B A^½)^½), in the features' own units squared; at least 0.

    The last trace is the sum of the singular values of F_a^T F_b for any factors with F F^T = A, B. So no root of a
    nearly singular product is taken, and equal Gaussians are 0 apart to the last digits.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"two Gaussians of one dimension are needed, not of {len(a.mean)} and {len(b.mean)}")
    shared = np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum() if a.factor.size and b.factor.size else 0.0
    spread = np.square(a.factor).sum() + np.square(b.factor).sum() - 2.0 * shared
    return max(0.0, float(np.square(a.mean - b.mean).sum() + spread))


class Moments:
    """What is kept of features, whatever their number: the sum of the products of all rows (1, feature, …), float64
    (D + 1, D + 1), which holds their number, their sum and that of their products.

    Features are rounded to multiples of `step`, a power of two. Sums of such numbers are exact as long as they fit into
    the 53 bits of a float64, so they come out the same in any order and over any number of processes: of features below
    2^15 steps in size, up to eight million samples.
    """

    def __init__(self, dimensions: int, step: float) -> None:
        self.sums, self.step = np.zeros((dimensions + 1, dimensions + 1)), step

    @property
    def count(self) -> int:
        return int(self.sums[0, 0])

    def add(self, features: Array) -> None:
        """features: (N, D). UserError where one is not finite."""
        if not np.isfinite(features).all():
            raise UserError("features hold NaN or infinity, so there is no Fréchet distance; check the weights given")
        rounded = np.round(np.asarray(features, dtype=np.float64) / self.step) * self.step
        rows = np.concatenate((np.ones((len(rounded), 1)), rounded), axis=1)
        self.sums += rows.T @ rows

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance. ValueError below two samples; fewer than dimensions are a singular one."""
        count = self.count
        if count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, not {count}")
        mean = self.sums[0, 1:] / count
        return gaussian(mean, (self.sums[1:, 1:] - count * np.outer(mean, mean)) / (count - 1))
