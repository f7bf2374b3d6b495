"""Charts for people: one look for all of them, and lines that are told apart without colour."""

from __future__ import annotations

import io
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image as Pillow

from daydrive.types import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAINT, RULE = "#6E727A", "#E4E6EA"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
"""Of Okabe and Ito, whose yellow is too pale for a line."""
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x", "P", "*")


class Line(NamedTuple):
    """How one of several lines is drawn; the lists have no common length, so that 280 lines differ."""

    colour: str
    dash: Any
    marker: str


def lines(count: int) -> list[Line]:
    """As many ways to draw a line, each of its own colour, dash and marker while there are enough."""
    return [Line(*each) for each in islice(zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False), count)]


def new_figure(width: float, height: float) -> Figure:
    """In inches, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axis: Axes, title: str, grid: str = "y") -> None:
    """The look of every chart: a title on the left, faint rules, no frame."""
    axis.set_title(title, loc="left", fontsize=11)
    axis.grid(axis=grid, color=RULE, linewidth=0.8)  # type: ignore[arg-type]
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(colors=FAINT, length=0)


def drawn(figure: Figure) -> Image:
    """The figure as an image, on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return np.asarray(Pillow.open(buffer).convert("RGB"))
