"""Uneven recordings put on an even clock."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from daydrive.errors import UserError

SAME_RATE = 1.05
"""recordings whose rates differ by less than this are all put on the clock of the slowest"""

SHORTEST_RUN = 1.0
"""seconds; what remains of a recording between two gaps and is shorter than this is worth nothing"""

Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def native_hz(times: Times) -> float:
    """The recording's own rate.

    1 / mean interval where the intervals are alike; else 1 / median interval, rounded down to a tenth: on a clock a
    little slower than the camera a picture has to be shown twice only rarely.
    """
    intervals = np.diff(times)
    median = float(np.median(intervals))
    if float(np.abs(intervals - median).max()) < 0.05 * median:
        return round(1.0 / float(intervals.mean()), 2)
    return max(math.floor(10.0 / median + 1e-6), 1) / 10.0


def shared_hz(recordings: Sequence[tuple[Path, Times]], given: float | None) -> list[float]:
    """The clock of each recording (what it was read from, its times): `given`, else its own rate or, within
    `SAME_RATE` of that, the slowest one's. UserError where one has too few frames for `given`."""
    rates = [native_hz(times) for _, times in recordings]
    for (path, _), rate in zip(recordings, rates, strict=True):
        if given and given > rate * SAME_RATE:
            raise UserError(f"{path} has {rate:g} frames a second, too few for --hz {given:g}")
    slowest = min(rates, default=0.0)
    return [given or (slowest if rate < slowest * SAME_RATE else rate) for rate in rates]


def long_enough(run: Indices, hz: float) -> bool:
    """Whether a run of `resample` lasts for `SHORTEST_RUN`."""
    return len(run) >= max(2.0, SHORTEST_RUN * hz)


def resample(times: Times, hz: float, gap: float | None = None) -> list[Indices]:
    """Which frames to take for an even clock of `hz`, one array of indices for each run without a gap.

    times: seconds, strictly increasing. An interval longer than `gap` seconds, two periods by default, is a gap. Each
    run has a clock of its own that starts with its first frame; a tick takes the nearest frame or, where that one is
    taken already, the next one if that is at most one period away. A frame is repeated only where the recording has
    none to offer.

    >>> times = np.array([0.0, 0.09, 0.21, 0.3, 1.0, 1.1])
    >>> [run.tolist() for run in resample(times, hz=10.0)]
    [[0, 1, 2, 3], [4, 5]]
    """
    period = 1.0 / hz
    cuts = np.flatnonzero(np.diff(times) > (gap or 2.0 * period)) + 1
    return [_run(times, first, last, period) for first, last in _bounds(cuts, len(times))]


def _bounds(cuts: Indices, count: int) -> list[tuple[int, int]]:
    edges = [0, *cuts.tolist(), count]
    return list(itertools.pairwise(edges))


def _run(times: Times, first: int, last: int, period: float) -> Indices:
    run = times[first:last]
    ticks = run[0] + period * np.arange(math.floor((run[-1] - run[0]) / period + 1e-6) + 1)
    after = np.clip(np.searchsorted(run, ticks), 1, max(len(run) - 1, 1))
    nearest = np.where(ticks - run[after - 1] <= run[np.minimum(after, len(run) - 1)] - ticks, after - 1, after)
    chosen = np.empty(len(ticks), dtype=np.int64)
    previous = -1
    for k, index in enumerate(nearest.tolist()):
        if index <= previous:
            follower = previous + 1
            free = follower < len(run) and run[follower] - ticks[k] <= period
            index = follower if free else previous
        chosen[k] = previous = index
    return chosen + first


def held_mean(values: npt.NDArray[np.floating], times: Times, chosen: Indices) -> npt.NDArray[np.float64]:
    """Means over each interval between chosen frames of values (N, D) that hold from one time to the next.

    The last chosen frame, and one that is repeated, keeps its own value. Result (len(chosen), D).
    """
    values = np.asarray(values, dtype=np.float64)
    result = values[chosen]
    weights = np.diff(times)[:, None]
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[:-1] * weights, axis=0)])
    begin, end = chosen[:-1], chosen[1:]
    several = end - begin > 1
    length = (times[end] - times[begin])[several, None]
    result[:-1][several] = (total[end] - total[begin])[several] / length
    return np.asarray(result, dtype=np.float64)
