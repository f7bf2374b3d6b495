"""Checks of the timestamps: times that run backwards or jump, counters that skip frames, a wrong frame rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from daydrive.data.quality.doctor.finding import Curve, Finding, drives_text
from daydrive.data.quality.doctor.readings import Readings

COUNTERS = ("row", "picture", "video_frame", "frame_index", "timestamp")
"""Columns of sources with the number or the timestamp of a frame in the recording."""
MAX_RATE_RATIO = 1.05
"""Ratio between the measured and the stored frame rate above which a drive is reported."""
GAP, COUNTER_GAP = 1.6, 3.5
"""Gaps in frame periods, and in median steps of a counter, above which frames are missing."""


def check_clocks(drives: Sequence[Readings]) -> Iterator[Finding]:
    """Yield findings on the timestamps and counters of the drives."""
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
        backwards = np.flatnonzero(np.diff(times) <= 0)
        if len(backwards):
            frame = int(backwards[0])
            seconds = float(times[frame] - times[frame + 1])
            yield Finding(
                "fatal", "clock-jumps",
                f"the time runs backwards {len(backwards)} times in drive '{drive.name}', first by {seconds:.2f} s "
                f"from frame {frame} to {frame + 1}",
                "sort the recording by time, or cut it there", (drive.name,), size=seconds, unit="s",
                frames=(frame, frame + 1), rows=(drive.start + frame, drive.start + frame + 1),
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
    off = {name: rate for name, rate in rates.items() if max(rate / drives[0].hz, drives[0].hz / rate) > MAX_RATE_RATIO}
    if not off:
        return
    rate, hz = float(np.median(list(off.values()))), drives[0].hz
    yield Finding(
        "fatal", "frame-rate",
        f"the frames of {drives_text(tuple(off), len(drives))} are {1 / rate:.4g} s apart by their timestamps, a rate "
        f"of {rate:.4g} Hz instead of the store's {hz:g} Hz: a factor of {hz / rate:.3g}",
        "prepare it again with the frame rate of the recording (--hz)", tuple(off), whole=len(off) == len(drives),
        size=hz / rate, unit="times the true rate",
    )  # fmt: skip


def _dropped(drives: Sequence[Readings]) -> Iterator[Finding]:
    for drive in drives:
        for name, factor in (("time", GAP), *((counter, COUNTER_GAP) for counter in COUNTERS)):
            column = drive.values.get(name)
            if column is None or len(column) < 4 or not np.isfinite(column).all():
                continue
            steps = np.diff(column)
            median_step = float(np.median(steps))
            if median_step <= 0:
                continue
            gaps = np.flatnonzero(steps > factor * median_step)
            if len(gaps) == 0:
                continue
            frame = int(gaps[np.argmax(steps[gaps])])
            missing = float(np.sum(np.round(steps[gaps] / median_step) - 1))
            yield Finding(
                "warning", "dropped-frames",
                f"{missing:.0f} frames are missing in drive '{drive.name}' according to its column '{name}', most of "
                f"them after frame {frame}, where it jumps from {column[frame]:.6g} to {column[frame + 1]:.6g}",
                "split the drive at its gaps (prepare does this if it gets the recorded timestamps)", (drive.name,),
                size=missing, unit="frames", frames=(frame, frame + 1),
                rows=(drive.start + frame, drive.start + frame + 1),
                curve=_clock_curve(drive, column, name),
            )  # fmt: skip
            break


def _clock_curve(drive: Readings, column: np.ndarray, name: str = "time") -> Curve:
    steps = np.diff(column)
    return Curve("frame", f"step of {name}", tuple(range(len(steps))), {drive.name: tuple(steps.tolist())}, {})
