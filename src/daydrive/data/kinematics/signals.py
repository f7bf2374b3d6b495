"""Signals over time: smooth values and slopes at any moment, means between moments, the lag of one behind another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CHUNK = 4096
"""Moments that are fitted at a time."""


class Fit(NamedTuple):
    """value (M, D) and slope (M, D), per second."""

    value: Array
    slope: Array


class Lag(NamedTuple):
    """frames: how much later the second signal is, positive when it follows. correlation: at that lag, signed."""

    frames: float
    correlation: float


def smooth(times: Array, values: Array, at: Array, window: float, order: int = 2) -> Fit:
    """Local polynomials through the samples around each moment of `at`, (M,) s.

    Savitzky and Golay (1964) without the even clock: least squares with tricube weights (Cleveland 1979), of `order`,
    over the samples of about `window` seconds, never fewer than the polynomial needs. At the ends of the recording the
    window is one-sided, so that nothing is invented beyond them.

    times: (N,) s, not decreasing, N >= 1. values: (N, D).
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
    near = first[:, None] + np.arange(width)
    offsets = times[near] - at[:, None]
    reach = np.abs(offsets).max(axis=1, keepdims=True) * (1.0 + 1.0 / width) + 1e-9
    offsets /= reach
    weights = (1.0 - np.abs(offsets) ** 3) ** 3
    powers = offsets[:, :, None] ** np.arange(order + 1)
    weighted = powers * weights[:, :, None]
    normal = np.einsum("mwi,mwj->mij", weighted, powers)
    normal += 1e-12 * np.eye(order + 1)
    found = np.linalg.solve(normal, np.einsum("mwi,mwd->mid", weighted, values[near]))
    return Fit(found[:, 0], found[:, 1] / reach if order else np.zeros_like(found[:, 0]))


def means_between(times: Array, values: Array, edges: Array) -> Array:
    """Mean of each interval [edges[i], edges[i + 1]] of a signal (N,) that runs straight from sample to sample and
    keeps its first and last value beyond them; its value where an interval is empty. Result (len(edges) - 1,)."""
    knots = np.union1d(times, edges)
    heights = np.interp(knots, times, values)
    area = np.concatenate([[0.0], np.cumsum(np.diff(knots) * (heights[1:] + heights[:-1]) / 2.0)])
    lengths, areas = np.diff(edges), np.diff(area[np.searchsorted(knots, edges)])
    return np.divide(areas, lengths, out=np.interp(edges[:-1], times, values), where=lengths > 0.0)


def covered(messages: Array, times: Array, reach: float) -> npt.NDArray[np.bool_]:
    """Which of `times` (N,) lie within `reach` seconds of one of `messages` (K,), K >= 2."""
    after = np.clip(np.searchsorted(messages, times), 1, len(messages) - 1)
    return np.minimum(np.abs(times - messages[after - 1]), np.abs(messages[after] - times)) <= reach


def lag(a: npt.ArrayLike, b: npt.ArrayLike, hz: float, limit: float = 1.0) -> Lag:
    """How much later than `a` the signal `b` is, both (N,) at `hz`, looked for up to `limit` seconds either way.

    The shift at which their correlation over the part that both have is strongest, of either sign; a parabola through
    it and its neighbours gives fractions of a frame. NaN where one of the signals never changes.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise ValueError(f"signals of one length, at least 3, not {x.shape} and {y.shape}")
    most = int(np.clip(round(limit * hz), 1, len(x) // 2))
    shifts = range(-most, most + 1)
    found = np.array(
        [_correlation(x[max(-k, 0) : len(x) - max(k, 0)], y[max(k, 0) : len(y) + min(k, 0)]) for k in shifts]
    )
    if np.isnan(found).all():
        return Lag(float("nan"), float("nan"))
    best = int(np.nanargmax(np.abs(found)))
    fraction = 0.0
    if 0 < best < len(found) - 1:
        before, peak, after = np.abs(found[best - 1 : best + 2])
        bend = before - 2.0 * peak + after
        fraction = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return Lag(float(shifts[best] + fraction), float(found[best]))


def _correlation(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0.0 else float("nan")
