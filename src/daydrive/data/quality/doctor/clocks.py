"""Examinations of the clock: times that run backwards or jump, counters that skip frames, another rate than said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from daydrive.data.quality.doctor.finding import Curve, Finding, named
from daydrive.data.quality.doctor.readings import Readings

COUNTERS = ("row", "picture", "video_frame", "frame_index", "timestamp")
"""Columns of sources that say which picture of the recording a frame is, or when it was taken."""
OTHER_RATE = 1.05
GAP, COUNTER_GAP = 1.6, 3.5
"""periods, and usual steps of a counter, from which frames are missing"""


def examine_clocks(drives: Sequence[Readings]) -> Iterator[Finding]:
    yield from _backwards(drives)
    yield from _rate(drives)
    yield from _dropped(drives)


def _times(drive: Readings) -> np.ndarray | None:
    times = drive.values.get("time")
    return times if times is not None and len(times) > 2 and np.isfinite(times).all() else None


def _backwards(drives: Sequence[Readings]) -> Iterator[Finding]:
    for drive in drives:
        times = _times(drive)
        if times is None:
            continue
        back = np.flatnonzero(np.diff(times) <= 0)
        if len(back):
            at = int(back[0])
            by = float(times[at] - times[at + 1])
            yield Finding(
                "fatal", "clock-jumps", f"the time runs backwards {len(back)} times in drive '{drive.name}', first by "
                f"{by:.2f} s from frame {at} to {at + 1}", "sort the recording by time, or cut it there", (drive.name,),
                size=by, unit="s", frames=(at, at + 1), rows=(drive.start + at, drive.start + at + 1),
                curve=_clock_curve(drive, times),
            )  # fmt: skip


def _rate(drives: Sequence[Readings]) -> Iterator[Finding]:
    rates = {}
    for drive in drives:
        times = _times(drive)
        if times is not None:
            period = float(np.median(np.diff(times)))
            if period > 0:
                rates[drive.name] = 1.0 / period
    off = {name: rate for name, rate in rates.items() if max(rate / drives[0].hz, drives[0].hz / rate) > OTHER_RATE}
    if not off:
        return
    rate, hz = float(np.median(list(off.values()))), drives[0].hz
    yield Finding(
        "fatal", "frame-rate",
        f"the frames of {named(tuple(off), len(drives))} are {1 / rate:.4g} s apart by their time, {rate:.4g} a "
        f"second, where the store says {hz:g}: a factor of {hz / rate:.3g}",
        "prepare it again with the rate that the recording has (--hz)", tuple(off), whole=len(off) == len(drives),
        size=hz / rate, unit="times the true rate",
    )  # fmt: skip


def _dropped(drives: Sequence[Readings]) -> Iterator[Finding]:
    for drive in drives:
        for name, factor in (("time", GAP), *((counter, COUNTER_GAP) for counter in COUNTERS)):
            column = drive.values.get(name)
            if column is None or len(column) < 4 or not np.isfinite(column).all():
                continue
            steps = np.diff(column)
            usual = float(np.median(steps))
            if usual <= 0:
                continue
            gaps = np.flatnonzero(steps > factor * usual)
            if len(gaps) == 0:
                continue
            at = int(gaps[np.argmax(steps[gaps])])
            missing = float(np.sum(np.round(steps[gaps] / usual) - 1))
            yield Finding(
                "warning", "dropped-frames", f"{missing:.0f} frames are missing in drive '{drive.name}' by its column "
                f"'{name}', most of them after frame {at}, where it goes from {column[at]:.6g} to {column[at + 1]:.6g}",
                "split the drive at its gaps (prepare does, where it is given the recorded times)", (drive.name,),
                size=missing, unit="frames", frames=(at, at + 1), rows=(drive.start + at, drive.start + at + 1),
                curve=_clock_curve(drive, column, name),
            )  # fmt: skip
            break


def _clock_curve(drive: Readings, column: np.ndarray, name: str = "time") -> Curve:
    steps = np.diff(column)
    return Curve("frame", f"step of {name}", tuple(range(len(steps))), {drive.name: tuple(steps.tolist())}, {})
