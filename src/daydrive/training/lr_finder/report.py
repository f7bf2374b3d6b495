"""A sweep over learning rates as one sees it: how far it is, its curve, what to write into the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console

from daydrive.charts import COLOURS, FAINT, drawn, dress, new_figure
from daydrive.progress import Display, Pace, clock_text
from daydrive.training.lr_finder.suggestion import rate_text
from daydrive.training.lr_finder.sweep import Sweep
from daydrive.types import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLAIN_LINES = 10
"""So many for a sweep, where there is no terminal."""

_SMOOTHED, _MARK, *_ = COLOURS
_RAW = "#9CC7E3"


class SweepProgress(Display):
    """Rate, loss and time left of the sweep of `part`."""

    def __init__(self, console: Console, part: str, steps: int) -> None:
        super().__init__(console)
        self._part, self._steps, self._pace = part, steps, Pace(self._clock, 0)

    def step(self, done: int, rate: float, loss: float) -> None:
        left = clock_text(self._pace.seconds_left(done, self._steps) or 0)
        line = f"{self._counted(self._part, done, self._steps)}  rate {rate_text(rate)}  loss {loss:.4f}  left {left}"
        self._show(lambda: line, done % max(1, self._steps // PLAIN_LINES) == 0)


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
