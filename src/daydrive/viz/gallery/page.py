"""The page of drives: one HTML file with everything in it, for a browser without a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from daydrive.data.images import encode
from daydrive.data.store.store import Store
from daydrive.types import Image
from daydrive.viz.gallery.reading import View
from daydrive.viz.html import address, embedded_json, filled

TALLEST = 192
"""pixels of a picture on the page"""
POINTS = 1000
"""of a curve at most"""
TEMPLATE = Path(__file__).with_name("templates") / "drives.html"


def page(store: Store, views: Sequence[View]) -> str:
    """The whole text of the page."""
    others = len(store.drives) - len(views)
    hours = store.rows / store.hz / 3600
    told = f"{store.rows} frames of {len(store.drives)} drives, {hours:.2f} h at {store.hz:g} Hz, from {store.source}"
    if others:
        told += f"; {len(views)} drives are shown"
    parts = {
        "TITLE": escape(store.path.name or str(store.path)),
        "TOLD": escape(told),
        "DRIVES": "\n".join(_section(k, view) for k, view in enumerate(views)),
        "DATA": embedded_json([_data(view) for view in views]),
    }
    return filled(TEMPLATE, parts)


def _section(number: int, view: View) -> str:
    """A drive: its pictures, and its curves as a drawing that is 1000 wide and 100 high, steering over pedals."""
    steering = _thinned(view.actions[:, 0])
    reach = min(1.0, max(0.1, float(np.nanmax(np.abs(view.actions[:, 0])))))
    lines = [
        '<path class="zero" d="M0 30H1000"/><path class="zero" d="M0 99H1000"/>',
        f'<path class="throttle" d="{_path(_thinned(view.actions[:, 1]), 99, 34, closed=True)}"/>',
        f'<path class="brake" d="{_path(_thinned(view.actions[:, 2]), 99, 34, closed=True)}"/>',
        f'<path class="steering" d="{_path(steering / reach, 30, 28)}"/>',
    ]
    if view.speed is not None:
        most = max(float(np.nanmax(np.abs(view.speed))), 1e-6)
        lines.append(f'<path class="speed" d="{_path(_thinned(np.abs(view.speed)) / most, 99, 34)}"/>')
    strip = "".join(f'<img alt="" data-k="{k}" draggable="false">' for k in range(len(view.chosen)))
    kept = f"{view.drive.frames} frames, {view.seconds:.1f} s"
    height, width = view.pictures[0].shape[:2]
    return (
        f'<section id="d{number}" style="--ratio:{width * view.pixel_aspect / height:.4f}">'
        f'<h2>{escape(view.drive.name)} <span class="split {escape(view.drive.split)}">{escape(view.drive.split)}'
        f"</span> <small>{kept}</small></h2>"
        f'<div class="now"><img alt="" class="big"><dl></dl></div><div class="strip">{strip}</div>'
        f'<div class="chart" tabindex="0" role="slider" aria-label="time in {escape(view.drive.name)}" '
        f'aria-valuemin="0" aria-valuemax="{view.seconds:.2f}"><span>right {reach:.2g}</span>'
        "<span>left</span>"
        f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{"".join(lines)}</svg>'
        f'<i class="cursor"></i></div></section>'
    )


def _data(view: View) -> dict[str, Any]:
    """What the page says at a moment: of every picture its frame, its bytes and the action."""
    actions = [[round(float(value), 3) for value in view.actions[k]] for k in view.chosen]
    speed = None if view.speed is None else [_number(view.speed[k]) for k in view.chosen]
    return {
        "frames": view.drive.frames,
        "hz": view.hz,
        "at": view.chosen.tolist(),
        "actions": actions,
        "speed": speed,
        "unit": view.speed_unit,
        "pictures": [_source(picture) for picture in view.pictures],
    }


def _number(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None


def _source(picture: Image) -> str:
    """The picture itself as an address."""
    height, width = picture.shape[:2]
    if height > TALLEST:
        size = (round(width * TALLEST / height), TALLEST)
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return address("image/jpeg", encode(picture))


def _thinned(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """At most `POINTS`: of each interval the value that is furthest from its mean, so that peaks stay."""
    good: npt.NDArray[np.float64] = np.nan_to_num(values.astype(np.float64))
    if len(good) <= POINTS:
        return good
    edges = np.linspace(0, len(good), POINTS + 1).astype(int)
    parts = [good[a:b] for a, b in pairwise(edges)]
    return np.array([part[np.argmax(np.abs(part - part.mean()))] for part in parts])


def _path(values: npt.NDArray[np.float64], floor: float, height: float, closed: bool = False) -> str:
    x = (np.arange(len(values)) + 0.5) / max(len(values), 1) * 1000
    y = floor - height * np.clip(values, -1, 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f"M{x[0]:.1f},{floor} L{points} L{x[-1]:.1f},{floor}Z" if closed else f"M{points}"
