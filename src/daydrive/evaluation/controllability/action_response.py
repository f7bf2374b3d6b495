"""A command and what was read from the images after it: how well, how strongly and how late the one follows."""

from __future__ import annotations

from typing import Any

import numpy as np

from daydrive.evaluation.controllability.flow import Array
from daydrive.evaluation.metrics.intervals import Bootstrap, interval

EARLIEST, LATEST = -1, 4
"""Delays in steps between which the response is looked for."""
LEAST_GAIN = 0.05
"""Spread of the reading, of that of the command, below which it counts as none."""


def response(
    read: Array,
    commands: Array,
    context: int,
    draws: Bootstrap | None,
    delays: tuple[int, int] = (EARLIEST, LATEST),
) -> dict[str, Any]:
    """Pooled over clips, each counting alike, at the delay at which the correlation is strongest, of either sign.

    read: (clips, N), between the frames predicted; commands: (clips, C-1+N), the first C-1 between the frames seen.
    `correlation` and, over drives, its interval; `gain`, the reading's slope over the command; `bias`, its mean less
    the command's; `delay` in steps, with a parabola through the strongest and its neighbours, None
    where only one is tried. All None where one of the two hardly changes or there are too few steps.

    delays: the least and the most that are tried.
    """
    steps = read.shape[1]
    earliest, latest = delays
    latest = min(latest, context - 1 + max(steps - 4, 0))
    begin, end = max(0, latest - (context - 1)), steps + min(earliest, 0)
    nothing = dict.fromkeys(("correlation", "correlation_interval", "gain", "bias", "delay"))
    if end - begin < 3:
        return nothing
    y = read[:, begin:end]
    tried = range(earliest, latest + 1)
    sums = []
    for delay in tried:
        from_ = context - 1 + begin - delay
        x = commands[:, from_ : from_ + y.shape[1]]
        sums.append(np.stack([values.mean(axis=1) for values in (x, y, x * x, x * y, y * y)], axis=-1))
    found = [_fit(total.mean(axis=0)) for total in sums]
    strengths = np.array([abs(correlation) for correlation, *_ in found])
    if not strengths.max() > 0:
        return nothing
    best = int(strengths.argmax())
    correlation, gain, bias = (float(value) for value in found[best])
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
    spread_x, spread_y, both = xx - x * x, yy - y * y, xy - x * y
    alive = (spread_x > 1e-9) & (spread_y > LEAST_GAIN**2 * spread_x)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(alive, both / np.sqrt(np.maximum(spread_x * spread_y, 1e-18)), 0.0)
        slope = np.where(alive, both / np.maximum(spread_x, 1e-12), 0.0)
    return correlation, slope, y - x


def _vertex(values: Array, best: int) -> float:
    """Where between its neighbours the top of a parabola through them lies, -0.5 to 0.5; 0 at the edges."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, peak, after = values[best - 1 : best + 2]
    bend = before - 2.0 * peak + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
