"""How far something long is: a live line on a terminal, a plain one now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

PLAIN_INTERVAL = 30.0
"""seconds between plain lines"""


class Counting:
    """Told how many are done, of how many: shows that with the rate, the time left and the memory of this process.

    What was done before the first call does not count for the rate.
    """

    def __init__(self, console: Console, what: str) -> None:
        self._console, self._what = console, what
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._live = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._live.add_task("", total=None) if self._live else None
        self._said = time.monotonic()
        self._began: tuple[float, int] | None = None

    def __enter__(self) -> Counting:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        if self._live and self._task is not None:
            self._live.update(self._task, completed=done, total=total, description=self._state(now, done, total))
        elif now - self._said > PLAIN_INTERVAL:
            self._said = now
            self._console.print(f"{self._what} {done}/{total}, {self._state(now, done, total)}", highlight=False)

    def _state(self, now: float, done: int, total: int) -> str:
        import psutil

        began, before = self._began or (now, done)
        state = f"memory {psutil.Process().memory_info().rss / 2**30:.1f} GiB"
        if done > before:
            rate = (done - before) / (now - began)
            left = round((total - done) / rate)
            state = f"{rate:.3g} a second, {left // 60}:{left % 60:02d} left, {state}"
        return state
