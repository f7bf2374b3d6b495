"""Time series: smoothed values and slopes at arbitrary times, interval means, lag between two signals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CHUNK = 4096
"""Number of query times that are fitted at once."""


class Fit(NamedTuple):
    """value (M, D) and slope (M, D), per second."""

    value: Array
    slope: Array


class Lag(NamedTuple):
    """frames: delay of the second signal, positive if it follows the first. correlation: signed, at that lag."""

    frames: float
    correlation: float


def smooth(times: Array, values: Array, at: Array, window: float, order: int = 2) -> Fit:
    """Values and slopes of local polynomial fits at the query times `at` (M,) s.

    Savitzky and Golay (1964) for uneven sampling: weighted least squares of degree `order` with tricube weights
    (Cleveland 1979) over about `window` seconds of samples, but at least as many as the polynomial needs. At the ends
    of the recording the window is one-sided.

    times: (N,) s, non-decreasing, N >= 1. values: (N, D).
    """
    count, span = len(times), times[-1] - times[0]
    order = min(order, count - 1)
    wanted = round(window / span * (count - 1)) + 1 if span > 0.0 else count
    width = int(np.clip(wanted, min(order + 2, count), count))
    first = np.clip(np.searchsorted(times, at) - width // 2, 0, count - width)
    chunks = [slice(k, k + CHUNK) for k in range(0, len(at), CHUNK)]
    fits = [_fit(times, values, at[chunk], first[chunk], width, order) for chunk in chunks]
    return Fit(np.concatenate([fit.value for fit in fits]), np.concatenate([fit.slope for fit in fits]))


def _fit(times: Array, values: Array, at: Array, first: npt.NDArray[np.intp], width: int, order: int) -> Fit:
    window = first[:, None] + np.arange(width)
    offsets = times[window] - at[:, None]
    scale = np.abs(offsets).max(axis=1, keepdims=True) * (1.0 + 1.0 / width) + 1e-9
    offsets /= scale
    weights = (1.0 - np.abs(offsets) ** 3) ** 3
    powers = offsets[:, :, None] ** np.arange(order + 1)
    weighted = powers * weights[:, :, None]
    normal = np.einsum("mwi,mwj->mij", weighted, powers)
    normal += 1e-12 * np.eye(order + 1)
    coefficients = np.linalg.solve(normal, np.einsum("mwi,mwd->mid", weighted, values[window]))
    return Fit(coefficients[:, 0], coefficients[:, 1] / scale if order else np.zeros_like(coefficients[:, 0]))


def means_between(times: Array, values: Array, edges: Array) -> Array:
    """Mean of a signal over each interval [edges[i], edges[i + 1]], (len(edges) - 1,).

    The signal `values` (N,) at `times` (N,) is interpolated linearly and constant beyond its first and last sample.
    The mean of an empty interval is the value there.
    """
    knots = np.union1d(times, edges)
    heights = np.interp(knots, times, values)
    area = np.concatenate([[0.0], np.cumsum(np.diff(knots) * (heights[1:] + heights[:-1]) / 2.0)])
    lengths, areas = np.diff(edges), np.diff(area[np.searchsorted(knots, edges)])
    return np.divide(areas, lengths, out=np.interp(edges[:-1], times, values), where=lengths > 0.0)


def covered(messages: Array, times: Array, tolerance: float) -> npt.NDArray[np.bool_]:
    """Which of `times` (N,) s lie within `tolerance` seconds of one of `messages` (K,) s, K >= 2: bool (N,)."""
    after = np.clip(np.searchsorted(messages, times), 1, len(messages) - 1)
    return np.minimum(np.abs(times - messages[after - 1]), np.abs(messages[after] - times)) <= tolerance


def lag(a: npt.ArrayLike, b: npt.ArrayLike, hz: float, limit: float = 1.0) -> Lag:
    """Delay of signal `b` relative to signal `a`, both (N,) at `hz`, searched within ±`limit` seconds.

    The shift with the largest absolute correlation over the overlap, refined to fractions of a frame by a parabola
    through the maximum and its neighbors. NaN if one of the signals is constant.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise ValueError(f"signals need the same length of at least 3, not shapes {x.shape} and {y.shape}")
    max_shift = int(np.clip(round(limit * hz), 1, len(x) // 2))
    shifts = range(-max_shift, max_shift + 1)
    correlations = np.array(
        [_correlation(x[max(-k, 0) : len(x) - max(k, 0)], y[max(k, 0) : len(y) + min(k, 0)]) for k in shifts]
    )
    if np.isnan(correlations).all():
        return Lag(float("nan"), float("nan"))
    best = int(np.nanargmax(np.abs(correlations)))
    fraction = 0.0
    if 0 < best < len(correlations) - 1:
        before, peak, after = np.abs(correlations[best - 1 : best + 2])
        curvature = before - 2.0 * peak + after
        fraction = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return Lag(float(shifts[best] + fraction), float(correlations[best]))


def _correlation(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0.0 else float("nan")
