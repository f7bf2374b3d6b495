"""A sweep over learning rates as one sees it: how far it is, its curve, what to write into the config."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from daydrive.training.logging.progress import clock_text
from daydrive.training.lr_finder.suggestion import rate_text
from daydrive.training.lr_finder.sweep import Sweep
from daydrive.types import Image
from daydrive.viz.charts import COLOURS, FAINT, drawn, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN_LINES = 10
"""So many for a sweep, where there is no terminal."""

_SMOOTHED, _MARK, *_ = COLOURS
_RAW = "#9CC7E3"


class SweepProgress:
    """Rate, loss and time left: live on a terminal, plain lines elsewhere; a context manager."""

    def __init__(self, console: Console, part: str, steps: int) -> None:
        self._console, self._part, self._steps = console, part, steps
        self._began = time.monotonic()
        self._live: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> SweepProgress:
        if self._console.is_terminal:
            columns = (TextColumn(self._part), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._live = Progress(*columns, console=self._console, transient=True)
            self._task = self._live.add_task("", total=self._steps)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, done: int, rate: float, loss: float) -> None:
        left = (time.monotonic() - self._began) / done * (self._steps - done)
        told = f"rate {rate_text(rate)}  loss {loss:.4f}  left {clock_text(left)}"
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, description=told)
        elif done % max(1, self._steps // PLAIN_LINES) == 0:
            self._console.print(f"{self._part} {done}/{self._steps}  {told}")


def curves(sweeps: Mapping[str, Sweep]) -> Image:
    """Loss over rate, raw and smoothed, the suggestion marked: one panel a sweep."""
    figure = new_figure(max(7.0, 5.2 * len(sweeps)), 4.2)
    for axis, (part, swept) in zip(figure.subplots(1, len(sweeps), squeeze=False)[0], sweeps.items(), strict=True):
        _curve(axis, part, swept)
    figure.suptitle(
        "Loss of the same validation clips after each step, the rate growing", x=0.01, ha="left", fontsize=11
    )
    return drawn(figure)


def _curve(axis: Axes, part: str, swept: Sweep) -> None:
    rate, low, high, _ = swept.suggestion
    axis.set_xscale("log")
    axis.plot(swept.rates, swept.losses, color=_RAW, linewidth=1.2, label="loss")
    axis.plot(swept.rates, swept.smoothed, color=_SMOOTHED, linewidth=2.2, label="smoothed")
    lowest, first = min(swept.smoothed), swept.smoothed[0]
    if first > lowest:
        axis.set_ylim(lowest - 0.2 * (first - lowest), first + 0.4 * (first - lowest))
    if rate is not None and low is not None and high is not None:
        axis.axvspan(low, high, color=_MARK, alpha=0.08, linewidth=0, label="lowest")
        axis.axvline(rate, color=_MARK, linewidth=1.8, linestyle="--", label=f"suggestion {rate_text(rate)}")
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    dress(axis, "optimizer.lr" if part == "all" else f"optimizer.{part}_lr", grid="both")
    axis.set_xlabel("learning rate", color=FAINT)
    axis.set_ylabel("loss", color=FAINT)


def yaml_lines(settings: Mapping[str, Mapping[str, float]]) -> str:
    """Sections and keys as they stand in a config."""
    lines = []
    for section, keys in settings.items():
        lines += [f"{section}:", *(f"  {key}: {rate_text(value)}" for key, value in keys.items())]
    return "\n".join(lines)
