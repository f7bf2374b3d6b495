"""Matplotlib charts in one style, with lines that can be distinguished without colour."""

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
"""The Okabe-Ito palette without its yellow, which is too pale for a line."""
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x", "P", "*")


class LineStyle(NamedTuple):
    """Style of one line. The lists above have pairwise coprime lengths, so 280 lines have different styles."""

    colour: str
    dash: Any
    marker: str


def line_styles(count: int) -> list[LineStyle]:
    """`count` line styles; colours, dashes and markers repeat only when their lists are exhausted."""
    return [
        LineStyle(*each) for each in islice(zip(cycle(COLOURS), cycle(DASHES), cycle(MARKERS), strict=False), count)
    ]


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` by `height` inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axis(axis: Axes, title: str, grid: str = "y") -> None:
    """Apply the common style: title on the left, faint grid lines, no frame."""
    axis.set_title(title, loc="left", fontsize=11)
    axis.grid(axis=grid, color=RULE, linewidth=0.8)  # type: ignore[arg-type]
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(colors=FAINT, length=0)


def render_figure(figure: Figure) -> Image:
    """The figure as uint8 (H, W, 3) on a white background."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return np.asarray(Pillow.open(buffer).convert("RGB"))
