"""The response of the motion estimated from images to a command: correlation, gain, bias and delay."""

from __future__ import annotations

from typing import Any

import numpy as np

from daydrive.evaluation.controllability.flow import Array
from daydrive.evaluation.metrics.intervals import Bootstrap, interval

MIN_DELAY, MAX_DELAY = -1, 4
"""Range of delays, in steps, in which the response is searched."""
MIN_GAIN = 0.05
"""Ratio of the standard deviations of estimate and command below which there is no response."""


def response(
    estimates: Array,
    commands: Array,
    context: int,
    draws: Bootstrap | None,
    delays: tuple[int, int] = (MIN_DELAY, MAX_DELAY),
) -> dict[str, Any]:
    """Response pooled over clips with equal weights, at the delay with the largest absolute correlation.

    estimates: (clips, N), between the predicted frames; commands: (clips, C-1+N), the first C-1 between the context
    frames; delays: smallest and largest delay to try. Returns `correlation`, its confidence interval over drives,
    `gain` (slope of the estimate over the command), `bias` (difference of the means), and `delay` in steps, refined by
    a parabola through the maximum and its neighbours, None if only one delay is tried. All are None if one of the two
    is nearly constant or there are too few steps.
    """
    steps = estimates.shape[1]
    first_delay, last_delay = delays
    last_delay = min(last_delay, context - 1 + max(steps - 4, 0))
    start, end = max(0, last_delay - (context - 1)), steps + min(first_delay, 0)
    no_response = dict.fromkeys(("correlation", "correlation_interval", "gain", "bias", "delay"))
    if end - start < 3:
        return no_response
    y = estimates[:, start:end]
    tried = range(first_delay, last_delay + 1)
    sums = []
    for delay in tried:
        offset = context - 1 + start - delay
        x = commands[:, offset : offset + y.shape[1]]
        sums.append(np.stack([values.mean(axis=1) for values in (x, y, x * x, x * y, y * y)], axis=-1))
    fits = [_fit(total.mean(axis=0)) for total in sums]
    strengths = np.array([abs(correlation) for correlation, *_ in fits])
    if not strengths.max() > 0:
        return no_response
    best = int(strengths.argmax())
    correlation, gain, bias = (float(value) for value in fits[best])
    bounds = None
    if draws is not None:
        low, high = interval(_fit(draws.means(sums[best]))[0])
        bounds = [round(float(low), 4), round(float(high), 4)]
    return {
        "correlation": round(correlation, 4),
        "correlation_interval": bounds,
        "gain": round(gain, 4),
        "bias": round(bias, 4),
        "delay": round(tried[best] + _vertex(strengths, best), 3) if len(tried) > 1 else None,
    }


def _fit(means: Array) -> tuple[Array, Array, Array]:
    """Correlation, slope and difference of means from the means of x, y, xx, xy, yy, (..., 5)."""
    x, y, xx, xy, yy = np.moveaxis(means, -1, 0)
    variance_x, variance_y, covariance = xx - x * x, yy - y * y, xy - x * y
    varies = (variance_x > 1e-9) & (variance_y > MIN_GAIN**2 * variance_x)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(varies, covariance / np.sqrt(np.maximum(variance_x * variance_y, 1e-18)), 0.0)
        slope = np.where(varies, covariance / np.maximum(variance_x, 1e-12), 0.0)
    return correlation, slope, y - x


def _vertex(values: Array, best: int) -> float:
    """Offset, -0.5 to 0.5, of the vertex of a parabola through a maximum and its neighbours; 0 at the edges."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, peak, after = values[best - 1 : best + 2]
    curvature = before - 2.0 * peak + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0
