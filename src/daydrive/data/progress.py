"""Progress of preparations: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

PLAIN_INTERVAL = 10.0
"""Seconds between plain lines."""


class PrepareProgress:
    """Counts drives and frames, and shows the frames per second and the remaining time.

    all_lengths, lengths: frames of all drives and of those still to do, None if unknown; with unknown lengths the
    remaining time is estimated from the number of drives.
    """

    def __init__(self, all_lengths: Sequence[int | None], lengths: Sequence[int | None]) -> None:
        self.drives, self.to_do = len(all_lengths), len(lengths)
        self.frames = None if None in lengths else sum(length or 0 for length in lengths)
        self.done, self.seen = self.drives - self.to_do, 0
        self.began = self.said = time.monotonic()
        self.console = Console(stderr=True)
        self.live: Progress | None = None
        self.task: TaskID | None = None

    def __enter__(self) -> PrepareProgress:
        if self.console.is_terminal:
            columns = (TextColumn("drives"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self.live = Progress(*columns, console=self.console, transient=True)
            self.task = self.live.add_task("", total=self.drives, completed=self.done)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def drive_done(self) -> None:
        self.done += 1
        self._show()

    def frames_done(self, frames: int) -> None:
        self.seen += frames
        self._show()

    def _show(self) -> None:
        if self.live is not None and self.task is not None:
            self.live.update(self.task, completed=self.done, description=self._rate())
        elif time.monotonic() - self.said > PLAIN_INTERVAL:
            self.said = time.monotonic()
            self.console.print(f"drives {self.done}/{self.drives}, {self._rate()}", highlight=False)

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self.began, 1e-9)
        text = f"{self.seen / seconds:.0f} frames/s"
        share = self.seen / self.frames if self.frames else 1 - (self.drives - self.done) / max(self.to_do, 1)
        if share > 0:
            left = round(seconds * (1.0 - min(share, 1.0)) / share)
            text += f", {left // 60}:{left % 60:02d} left"
        return text
