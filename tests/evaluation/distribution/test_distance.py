"""The Fréchet distance compared with scipy and closed forms, and its accumulated moments."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from daydrive.errors import UserError
from daydrive.evaluation.distribution.frechet import Gaussian, Moments, frechet_distance, gaussian
from daydrive.evaluation.metrics.intervals import Array


def covariance(rank: int, size: int, seed: int) -> Array:
    factor = np.random.default_rng(seed).normal(size=(size, rank))
    return factor @ factor.T


def drawn(seed: int, samples: int, size: int) -> Array:
    random = np.random.default_rng(seed)
    return random.normal(size=(samples, size)) @ random.normal(size=(size, size)) + random.normal(size=size)


def by_scipy(mean_a: Array, a: Array, mean_b: Array, b: Array) -> float:
    """The published formula with a matrix square root."""
    root = scipy.linalg.sqrtm(a @ b)
    return float(np.square(mean_a - mean_b).sum() + np.trace(a + b - 2 * root).real)


def distance(mean_a: Array, a: Array, mean_b: Array, b: Array) -> float:
    return frechet_distance(gaussian(mean_a, a), gaussian(mean_b, b))


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_agrees_with_scipy(size: int) -> None:
    means = np.random.default_rng(size).normal(size=(2, size))
    a, b = covariance(size + 5, size, 1), covariance(size + 9, size, 2)
    assert distance(means[0], a, means[1], b) == pytest.approx(by_scipy(means[0], a, means[1], b), rel=1e-8)


def test_closed_forms() -> None:
    one = np.array([3.0]), np.array([[4.0]])
    other = np.array([1.0]), np.array([[25.0]])
    assert distance(*one, *other) == pytest.approx((3 - 1) ** 2 + (2 - 5) ** 2, abs=1e-12)
    mean, spread_a, spread_b = np.zeros(3), np.array([1.0, 4.0, 9.0]), np.array([16.0, 0.0, 9.0])
    expected = np.square(np.sqrt(spread_a) - np.sqrt(spread_b)).sum()
    assert distance(mean, np.diag(spread_a), mean + 2, np.diag(spread_b)) == pytest.approx(expected + 12, abs=1e-10)
    turn = scipy.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    commuting = [turn @ np.diag(spread) @ turn.T for spread in (spread_a, spread_b)]
    assert distance(mean, commuting[0], mean, commuting[1]) == pytest.approx(expected, abs=1e-10)
    angle, (x, y) = 0.7, (5.0, 1.0)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b = np.diag([x, y]), turned @ np.diag([x, y]) @ turned.T
    trace = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    assert distance(np.zeros(2), a, np.zeros(2), b) == pytest.approx(2 * (x + y) - 2 * trace, abs=1e-12)


def test_singular_covariances() -> None:
    zero = np.zeros(6)
    lines = [np.outer(v, v) for v in np.random.default_rng(0).normal(size=(2, 6))]
    product = np.sqrt(np.trace(lines[0] @ lines[1]))
    expected = np.trace(lines[0]) + np.trace(lines[1]) - 2 * product
    assert distance(zero, lines[0], zero, lines[1]) == pytest.approx(expected, rel=1e-12)
    nothing = np.zeros((6, 6))
    assert distance(zero, nothing, zero, lines[1]) == pytest.approx(np.trace(lines[1]), rel=1e-12)
    assert distance(zero, nothing, zero + 1, nothing) == pytest.approx(6.0)
    apart = np.diag([1.0, 1, 1, 0, 0, 0]), np.diag([0.0, 0, 0, 2, 2, 2])
    assert distance(zero, apart[0], zero, apart[1]) == pytest.approx(9.0, abs=1e-12)


def test_distance_is_zero_for_identical_sets_and_squared_for_a_shift() -> None:
    for samples in (300, 20):
        features = drawn(0, samples, 50)
        moments = Moments(50, 2.0**-12)
        moments.add(features)
        of = moments.gaussian()
        size = np.square(of.factor).sum()
        assert 0 <= frechet_distance(of, of) < 1e-9 * size
        shifted = Gaussian(of.mean + 0.5, of.factor)
        assert frechet_distance(of, shifted) == pytest.approx(50 * 0.25, rel=1e-8)
        assert frechet_distance(of, shifted) == frechet_distance(shifted, of)


def test_fewer_samples_than_dimensions_agree_with_scipy() -> None:
    sets = [drawn(seed, 12, 30) for seed in (0, 1)]
    means, spreads = [s.mean(0) for s in sets], [np.cov(s, rowvar=False) for s in sets]
    ours = distance(means[0], spreads[0], means[1], spreads[1])
    assert ours == pytest.approx(by_scipy(means[0], spreads[0], means[1], spreads[1]), rel=1e-4)
    factors = [(s - s.mean(0)) / np.sqrt(11) for s in sets]
    exact = sum(np.square(f).sum() for f in factors) - 2 * np.linalg.norm(factors[0] @ factors[1].T, "nuc")
    assert ours == pytest.approx(np.square(means[0] - means[1]).sum() + exact, rel=1e-9)


def test_moments_agree_with_numpy() -> None:
    features = np.round(drawn(3, 200, 8) * 2**12) / 2**12
    moments = Moments(8, 2.0**-12)
    moments.add(features)
    of = moments.gaussian()
    assert of.mean == pytest.approx(features.mean(0), abs=1e-12)
    assert of.factor @ of.factor.T == pytest.approx(np.cov(features, rowvar=False), abs=1e-9)


def test_sums_do_not_depend_on_order_and_partition() -> None:
    features = drawn(4, 1000, 20) * 3
    whole = Moments(20, 2.0**-10)
    whole.add(features)
    shuffled = np.random.default_rng(0).permutation(features)
    together = np.zeros_like(whole.sums)
    for cut in np.array_split(shuffled, [1, 10, 400, 999]):
        part = Moments(20, 2.0**-10)
        for piece in np.array_split(cut, 3):
            part.add(piece)
        together += part.sums
    assert whole.count == 1000
    assert np.array_equal(together, whole.sums)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_features_are_rejected(bad: float) -> None:
    features = np.zeros((4, 3))
    features[2, 1] = bad
    with pytest.raises(UserError, match="features contain NaN or infinity"):
        Moments(3, 0.5).add(features)
    with pytest.raises(ValueError, match="finite"):
        gaussian(features[2], np.eye(3))
    with pytest.raises(ValueError, match="finite"):
        gaussian(np.zeros(3), np.full((3, 3), bad))


def test_too_few_samples_and_wrong_dimensions_are_rejected() -> None:
    moments = Moments(3, 0.5)
    moments.add(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="at least 2 samples, not 1"):
        moments.gaussian()
    with pytest.raises(ValueError, match="of 2 and 3"):
        frechet_distance(gaussian(np.zeros(2), np.eye(2)), gaussian(np.zeros(3), np.eye(3)))


def test_extreme_values_retain_precision() -> None:
    for scale in (1e-12, 1e12):
        a, b = covariance(9, 4, 1) * scale**2, covariance(9, 4, 2) * scale**2
        mean = np.zeros(4)
        reference = distance(mean, a / scale**2, mean + 1, b / scale**2)
        assert distance(mean, a, mean + scale, b) == pytest.approx(reference * scale**2, rel=1e-9)
