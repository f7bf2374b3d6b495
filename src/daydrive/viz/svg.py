"""Charts as SVG: lines, areas and labels, with the data that a page's script reads to show values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from daydrive.viz.html import render

Points = Iterable[tuple[float, float]]

WIDTH, HEIGHT = 1000, 300
DASHES = ("", "9 4", "2 3", "9 3 2 3", "14 4", "5 5")
"""Lines differ in dash as well as colour."""
_TICKS = 5


class Drawing:
    """Elements on a plane of `width` by `height`, y downwards."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._elements: list[Markup] = []

    def path(self, points: Points, *, closed: bool = False, **attributes: Any) -> None:
        """A polyline through the points; points that are not finite are skipped, no points draw nothing."""
        known = [f"{x:.1f},{y:.1f}" for x, y in points if math.isfinite(x) and math.isfinite(y)]
        if known:
            end = "Z" if closed else ""
            self._elements.append(
                Markup('<path{} d="M{}{}"/>').format(_attribute_text(attributes), " ".join(known), end)
            )

    def horizontal_line(self, y: float, left: float = 0, right: float | None = None, **attributes: Any) -> None:
        """A horizontal line; `right` is the full width by default."""
        self.path([(left, y), (self.width if right is None else right, y)], **attributes)

    def text(self, x: float, y: float, text: str, **attributes: Any) -> None:
        element = Markup('<text x="{:.1f}" y="{:.1f}"{}>{}</text>')
        self._elements.append(element.format(x, y, _attribute_text(attributes), text))

    def markup(self, *, stretched: bool = False, **attributes: Any) -> Markup:
        """The SVG element. stretched: fills its box regardless of aspect ratio, and is hidden from screen readers."""
        if stretched:
            attributes |= {"preserveAspectRatio": "none", "aria_hidden": "true"}
        opening = Markup('<svg viewBox="0 0 {:g} {:g}"{}>').format(self.width, self.height, _attribute_text(attributes))
        return opening + Markup("").join(self._elements) + Markup("</svg>")


def _attribute_text(attributes: dict[str, Any]) -> Markup:
    """`stroke_width=2` → ` stroke-width="2"`, `class_="grid"` → ` class="grid"`; None is skipped."""
    return Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value)
        for name, value in attributes.items()
        if value is not None
    )


def linear(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """The linear map that takes `low` to `start` and `high` to `end`."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


class Curve(NamedTuple):
    """values: one per step, None where missing. bounds: per step, lower and upper bound of a band around the value."""

    label: str
    values: Sequence[float | None]
    bounds: Sequence[Sequence[float] | None] = ()


class Chart(NamedTuple):
    """steps: of the values, evenly spaced. reference: a value at which to draw a line, such as that of real frames."""

    name: str
    steps: Sequence[int]
    curves: Sequence[Curve]
    reference: float | None = None


def chart_data(chart: Chart) -> dict[str, Any]:
    """The values for the page's script."""
    return {"steps": list(chart.steps), "curves": [list(curve.values) for curve in chart.curves]}


def chart_html(chart: Chart) -> Markup:
    """Title, drawing with axes, and a legend; the page's script adds the values at the selected step."""
    count = len(chart.steps)
    low, high, ticks = _scale(chart)
    x = linear(-0.5, count - 0.5, 0, WIDTH)
    y = linear(low, high, HEIGHT, 0)
    drawing = Drawing(WIDTH, HEIGHT)
    for tick in ticks:
        drawing.horizontal_line(y(tick), class_="grid")
    if chart.reference is not None:
        drawing.horizontal_line(y(chart.reference), class_="even")
    for curve in chart.curves:
        bounds = [(k, bound[0], bound[1]) for k, bound in enumerate(curve.bounds) if bound and None not in bound]
        upper, lower = [(x(k), y(above)) for k, _, above in bounds], [(x(k), y(below)) for k, below, _ in bounds]
        drawing.path([*upper, *reversed(lower)], closed=True, class_="band")
    for i, curve in reversed(list(enumerate(chart.curves))):
        drawing.path([(x(k), y(v)) for k, v in enumerate(curve.values) if v is not None], **_stroke(i))
    drawn = render(
        "daydrive.viz",
        "chart.html",
        chart=chart,
        drawing=drawing.markup(stretched=True),
        left=[(100 * y(tick) / HEIGHT, _tick_label(tick, ticks)) for tick in ticks],
        below=[(100 * x(k) / WIDTH, chart.steps[k]) for k in _labelled_steps(chart.steps)],
        legend=[(_sample(i), curve.label) for i, curve in enumerate(chart.curves)],
    )
    return Markup(drawn)


def _stroke(i: int) -> dict[str, Any]:
    return {"style": f"stroke:var(--c{i})", "stroke_dasharray": DASHES[i % len(DASHES)] or None}


def _sample(i: int) -> Markup:
    """A short line for the legend."""
    sample = Drawing(28, 6)
    sample.horizontal_line(3, **_stroke(i))
    return sample.markup(aria_hidden="true")


def _scale(chart: Chart) -> tuple[float, float, list[float]]:
    """Lower and upper end of the y axis, and round tick values between them."""
    values = [value for curve in chart.curves for value in curve.values if value is not None]
    values += [] if chart.reference is None else [chart.reference]
    values += [value for curve in chart.curves for bound in curve.bounds for value in bound or () if value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    apart = _round_up((high - low) / 4)
    first = math.ceil(low / apart)
    return low, high, [k * apart for k in range(first, math.floor(high / apart) + 1)]


def _tick_label(tick: float, ticks: Sequence[float]) -> str:
    apart = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    return f"{tick:.{max(0, -math.floor(math.log10(apart) + 1e-9))}f}"


def _round_up(value: float) -> float:
    """The next number of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _labelled_steps(steps: Sequence[int]) -> list[int]:
    """Indices of the steps with a label: all of a few, otherwise the first, and round numbers."""
    if len(steps) <= 2 * _TICKS:
        return list(range(len(steps)))
    apart = max(1, round(_round_up(steps[-1] / _TICKS)))
    return [k for k, step in enumerate(steps) if k == 0 or step % apart == 0]
