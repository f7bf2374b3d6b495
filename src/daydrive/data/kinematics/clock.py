"""Resampling of unevenly timed recordings to a fixed rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from daydrive.errors import UserError

SAME_RATE = 1.05
"""Recordings whose rates differ by less than this factor are all resampled to the rate of the slowest."""

MIN_RUN_SECONDS = 1.0
"""Seconds; runs between two gaps that are shorter than this are dropped."""

MIN_HZ, MAX_HZ = 0.5, 120.0
"""Rates of recordings that are accepted unless they are stated, since wrong units of time give rates far outside."""

Times = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


class ImplausibleRateError(UserError):
    """The times of a recording give a rate that no recording has."""


def check_rate(path: Path | str, hz: float) -> None:
    """Raise ImplausibleRateError if the native rate of a recording is outside `MIN_HZ` to `MAX_HZ`."""
    if not MIN_HZ - 1e-6 <= hz <= MAX_HZ + 0.5:
        raise ImplausibleRateError(
            f"{path} has {hz:.4g} frames per second by its times, outside {MIN_HZ:g} to {MAX_HZ:g}"
        )


def native_hz(times: Times) -> float:
    """The native frame rate, Hz, of frames at `times` (N,) s.

    1 / mean interval if the intervals are nearly equal; otherwise 1 / median interval, rounded down to a tenth, since
    at a rate slightly below the camera's a frame rarely has to be repeated. Infinite if the times do not increase.
    """
    intervals = np.diff(times)
    median = float(np.median(intervals))
    if median <= 0.0:
        return math.inf
    if float(np.abs(intervals - median).max()) < 0.05 * median:
        rate = 1.0 / float(intervals.mean())
        return round(rate, 2) if rate > 0.1 else rate
    return max(math.floor(10.0 / median + 1e-6) / 10.0, min(1.0 / median, 0.1))


def shared_hz(
    recordings: Sequence[tuple[Path, Times]], given: float | None, stated: float | None = None
) -> list[float]:
    """The rate, Hz, of each recording, given as (path, frame times (N,) s).

    This is `given` if set; otherwise the native rate, or the slowest recording's rate if that is within `SAME_RATE`.
    stated: the rate that the user gave in place of the recorded times, which may be any. Raises UserError if a
    recording's native rate is implausible or below `given`.
    """
    rates = [native_hz(times) for _, times in recordings]
    for (path, _), rate in zip(recordings, rates, strict=True):
        if not stated:
            check_rate(path, rate)
        if given and given > rate * SAME_RATE:
            raise UserError(f"{path} has {rate:g} frames per second, too few for --hz {given:g}")
    slowest = min(rates, default=0.0)
    return [given or (slowest if rate < slowest * SAME_RATE else rate) for rate in rates]


def resample(times: Times, hz: float, gap: float | None = None) -> list[Indices]:
    """Indices of the frames to use at a fixed rate of `hz`: one array for each run without a gap.

    times: (N,) s, strictly increasing. An interval longer than `gap` seconds (default: two periods) is a gap. The
    clock of each run starts at its first frame. Each tick uses the nearest frame; if that frame is already used, it
    uses the next one, provided it is at most one period away. A frame is repeated only if there is no such frame.

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
    """Mean of `values` (N, D) from each chosen frame to the next, (len(chosen), D).

    Each value holds from its time until the next one (zero-order hold). The last chosen frame and repeated frames
    keep their own values.
    """
    values = np.asarray(values, dtype=np.float64)
    result = values[chosen]
    weights = np.diff(times)[:, None]
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values[:-1] * weights, axis=0)])
    start, end = chosen[:-1], chosen[1:]
    longer = end - start > 1
    length = (times[end] - times[start])[longer, None]
    result[:-1][longer] = (total[end] - total[start])[longer] / length
    return np.asarray(result, dtype=np.float64)
