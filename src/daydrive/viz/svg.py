"""Curves for a page: drawn as SVG, read off by pointer or keyboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH, HEIGHT = 1000, 300
DASHES = ("", "9 4", "2 3", "9 3 2 3", "14 4", "5 5")
"""Lines differ in dash as well as in colour."""
_TICKS = 5


class Curve(NamedTuple):
    """values: of each step; None where there is none. bounds: of each step, lowest and highest of a band around it."""

    label: str
    values: Sequence[float | None]
    bounds: Sequence[Sequence[float] | None] = ()


class Chart(NamedTuple):
    """steps: which ones the values are of, evenly spaced. even: a value to draw a line at, such as the real frames'."""

    name: str
    steps: Sequence[int]
    curves: Sequence[Curve]
    even: float | None = None


def chart_data(chart: Chart) -> dict[str, Any]:
    """What the page's script reads the values from."""
    return {"steps": list(chart.steps), "curves": [list(curve.values) for curve in chart.curves]}


def chart_html(chart: Chart) -> str:
    """Name, drawing with its axes, and below it the curves by their names; the script adds the values at a step."""
    count = len(chart.steps)
    low, high, ticks = _scale(chart)

    def x(k: int) -> float:
        return (k + 0.5) / count * WIDTH

    def y(value: float) -> float:
        return (high - value) / (high - low) * HEIGHT

    drawn = [f'<path class="grid" d="M0,{y(tick):.1f}H{WIDTH}"/>' for tick in ticks]
    if chart.even is not None:
        drawn.append(f'<path class="even" d="M0,{y(chart.even):.1f}H{WIDTH}"/>')
    for curve in chart.curves:
        bounds = [(k, bound[0], bound[1]) for k, bound in enumerate(curve.bounds) if bound and None not in bound]
        if bounds:
            there = [f"{x(k):.1f},{y(above):.1f}" for k, _, above in bounds]
            back = [f"{x(k):.1f},{y(below):.1f}" for k, below, _ in reversed(bounds)]
            drawn.append(f'<path class="band" d="M{" ".join(there + back)}Z"/>')
    for i, curve in reversed(list(enumerate(chart.curves))):
        points = " ".join(f"{x(k):.1f},{y(v):.1f}" for k, v in enumerate(curve.values) if v is not None)
        drawn.append(f'<path {_stroke(i)} d="M{points}"/>' if points else "")
    left = "".join(f'<b class="y" style="top:{100 * y(tick) / HEIGHT:.1f}%">{_said(tick, ticks)}</b>' for tick in ticks)
    below = "".join(f'<b class="x" style="left:{x(k) / WIDTH:.1%}">{chart.steps[k]}</b>' for k in _places(chart.steps))
    names = "".join(
        f'<li><svg viewBox="0 0 28 6" aria-hidden="true"><path {_stroke(i)} d="M0,3H28"/></svg>{escape(curve.label)} '
        "<output></output></li>"
        for i, curve in enumerate(chart.curves)
    )
    return (
        f'<figure><figcaption class="name">{escape(chart.name)}</figcaption>'
        f'<div class="chart" tabindex="0" role="slider" aria-label="{escape(chart.name)}, by steps ahead" '
        f'aria-valuemin="{chart.steps[0]}" aria-valuemax="{chart.steps[-1]}" aria-valuenow="{chart.steps[-1]}">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>'
        f'<div class="plot">{left}{below}<i class="cursor"></i></div></div>'
        f'<ul class="read"><li class="at">steps ahead</li>{names}</ul></figure>'
    )


def _stroke(i: int) -> str:
    dash = DASHES[i % len(DASHES)]
    return f'style="stroke:var(--c{i})"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _scale(chart: Chart) -> tuple[float, float, list[float]]:
    """Lowest and highest value of the drawing, and round values between them."""
    values = [value for curve in chart.curves for value in curve.values if value is not None]
    values += [] if chart.even is None else [chart.even]
    values += [value for curve in chart.curves for bound in curve.bounds for value in bound or () if value is not None]
    low, high = min(values, default=0.0), max(values, default=0.0)
    room = 0.06 * (high - low) or 1.0
    low, high = low - room, high + room
    apart = _rounded_up((high - low) / 4)
    first = math.ceil(low / apart)
    return low, high, [k * apart for k in range(first, math.floor(high / apart) + 1)]


def _said(tick: float, ticks: Sequence[float]) -> str:
    apart = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    return f"{tick:.{max(0, -math.floor(math.log10(apart) + 1e-9))}f}"


def _rounded_up(value: float) -> float:
    """To 1, 2 or 5 of a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _places(steps: Sequence[int]) -> list[int]:
    """Of the steps that are named: the first, and round ones."""
    apart = max(1, round(_rounded_up(steps[-1] / _TICKS)))
    return [k for k, step in enumerate(steps) if k == 0 or step % apart == 0]
