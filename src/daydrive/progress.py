"""Progress displays: updated in place on a terminal, occasional plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
import torch
from rich.console import Console
from rich.live import Live
from rich.text import Text

from daydrive.devices import memory_used

PLAIN_INTERVAL = 10.0
"""Seconds between plain lines."""

REDRAW_INTERVAL = 0.25
"""Minimum seconds between two updates on a terminal."""

BAR_WIDTH = 12
KNOTS = 1024
CPU = torch.device("cpu")


class Pace:
    """Measures a rate. before: the amount already done, which does not count; None: the amount at the first call."""

    def __init__(self, clock: Callable[[], float], before: float | None = None) -> None:
        self._clock = clock
        self._started = None if before is None else (clock(), before)

    def rate(self, done: float) -> float | None:
        """Amount per second; None until something is done."""
        now = self._clock()
        started, before = self._started = self._started or (now, done)
        return (done - before) / max(now - started, 1e-9) if done > before else None

    def seconds_left(self, done: float, total: float) -> float | None:
        rate = self.rate(done)
        return None if rate is None else max(0.0, total - done) / rate


class TimeLeft:
    """Estimates the remaining time of a training whose steps differ in cost.

    cost(n): relative cost of step n (from 0). The first step is not counted, since it compiles and warms up.
    """

    def __init__(self, start: int, total: int, cost: Callable[[int], float], clock: Callable[[], float]) -> None:
        self._pace = Pace(clock)
        self._knots = np.unique(np.linspace(start, max(start + 1, total), KNOTS + 1).astype(int))
        costs = [cost(int(n)) for n in self._knots[:-1]]
        self._spent = np.concatenate([[0.0], np.cumsum(costs * np.diff(self._knots))])

    def seconds(self, step: int) -> float | None:
        """Remaining seconds when `step` steps are done; to be called after every step. None before the second one."""
        return self._pace.seconds_left(float(np.interp(step, self._knots, self._spent)), float(self._spent[-1]))


class Display:
    """Base class of progress displays; a context manager that restores the terminal.

    interval: seconds between plain lines. transient: whether the display is removed at the end.
    """

    def __init__(
        self,
        console: Console,
        *,
        interval: float = math.inf,
        transient: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock, self._interval, self._last_printed = console, clock, interval, clock()
        self._live = Live(console=console, auto_refresh=False, transient=transient) if console.is_terminal else None
        self._drawn = -math.inf

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def print_message(self, message: str, style: str = "") -> None:
        """Print a message, which is not parsed for markup. style: rich's, such as 'bold yellow'."""
        self._console.print(message, style=style or None, markup=False, emoji=False, highlight=False)

    def _counted(self, what: str, done: int, total: int) -> str:
        """`clips 3/10`, with a bar on a terminal."""
        return f"{what} {done}/{total}" if self._live is None else f"{what} {bar(done, total)} {done}/{total}"

    def _show(self, line: Callable[[], str], due: bool = False, drawing: Callable[[], Text] | None = None) -> None:
        """Show progress if the interval has passed. due: show it now in any case. drawing: for a terminal; default: the
        line."""
        now = self._clock()
        if self._live is None:
            if due or now - self._last_printed > self._interval:
                self._last_printed = now
                self.print_message(line())
        elif due or now - self._drawn >= REDRAW_INTERVAL:
            self._drawn = now
            text = drawing() if drawing else Text(line(), no_wrap=True, overflow="ellipsis")
            self._live.update(text, refresh=True)


class CountProgress(Display):
    """Shows a count, its rate, the time left and the memory of this process."""

    def __init__(self, console: Console, what: str) -> None:
        super().__init__(console, interval=3 * PLAIN_INTERVAL)
        self._what, self._pace = what, Pace(self._clock)

    def __call__(self, done: int, total: int) -> None:
        rate, left = self._pace.rate(done), self._pace.seconds_left(done, total)
        self._show(lambda: f"{self._counted(self._what, done, total)}, {self._state(rate, left)}")

    def _state(self, rate: float | None, left: float | None) -> str:
        state = f"memory {memory_used(CPU)[0] / 2**30:.1f} GiB"
        return state if rate is None or left is None else f"{rate:.3g} a second, {clock_text(left)} left, {state}"


class DriveProgress(Display):
    """Shows drives, frames per second and the time left.

    lengths: frames of all drives and of the remaining ones; where one is None (unknown), drives are counted instead.
    """

    def __init__(self, all_lengths: Sequence[int | None], lengths: Sequence[int | None]) -> None:
        super().__init__(Console(stderr=True), interval=PLAIN_INTERVAL)
        self._drives, self._to_do = len(all_lengths), len(lengths)
        self._frames = None if None in lengths else sum(length or 0 for length in lengths)
        self._before = self._done = self._drives - self._to_do
        self._seen = 0
        self._speed, self._pace = Pace(self._clock, 0), Pace(self._clock, 0)

    def drive_done(self) -> None:
        self._done += 1
        self._update()

    def frames_done(self, frames: int) -> None:
        self._seen += frames
        self._update()

    def _update(self) -> None:
        self._show(lambda: f"{self._counted('drives', self._done, self._drives)}, {self._state()}")

    def _state(self) -> str:
        done, total = (self._seen, self._frames) if self._frames else (self._done - self._before, self._to_do)
        left = self._pace.seconds_left(done, total)
        text = f"{self._speed.rate(self._seen) or 0:.0f} frames/s"
        return text if left is None else f"{text}, {clock_text(left)} left"


def bar(done: int, total: int) -> str:
    """`[=====>      ]`"""
    filled = BAR_WIDTH * done // max(1, total)
    return "[" + "=" * filled + (">" if filled < BAR_WIDTH else "") + " " * (BAR_WIDTH - filled - 1) + "]"


def memory_line(device: torch.device) -> str:
    """Memory used and total: of the GPU for a training on one, else of this process and of the machine."""
    used, total = memory_used(device)
    name = "GPU" if device.type == "cuda" else "Memory"
    return f"{name}: {used / 2**30:.1f}GB / {total / 2**30:.0f}GB"


def clock_text(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
