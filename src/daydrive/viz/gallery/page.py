"""The page of drives: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from daydrive.data.images import encode
from daydrive.data.store.store import Store
from daydrive.types import Image
from daydrive.viz.gallery.reading import View
from daydrive.viz.html import data_uri, render
from daydrive.viz.svg import Drawing

TALLEST = 192
"""Maximum height of an image on the page, in pixels."""
POINTS = 1000
"""Maximum number of points of a curve."""
WIDTH = 1000
PEDAL_BOTTOM, PEDAL_HEIGHT = 99, 34
STEERING_MIDDLE, STEERING_HEIGHT = 30, 28


class Section(NamedTuple):
    """A drive on the page. ratio: width / height of images; reach: steering at the top of the curve; curves: SVG."""

    view: View
    ratio: str
    reach: str
    curves: Markup


def page(store: Store, views: Sequence[View]) -> str:
    """The text of the page."""
    others = len(store.drives) - len(views)
    hours = store.rows / store.hz / 3600
    subtitle = (
        f"{store.rows} frames of {len(store.drives)} drives, {hours:.2f} h at {store.hz:g} Hz, from {store.source}"
    )
    if others:
        subtitle += f"; {len(views)} drives are shown"
    return render(
        __package__,
        "drives.html",
        title=store.path.name or str(store.path),
        subtitle=subtitle,
        sections=[_section(view) for view in views],
        data=[_data(view) for view in views],
    )


def _section(view: View) -> Section:
    reach = min(1.0, max(0.1, float(np.nanmax(np.abs(view.actions[:, 0])))))
    height, width = view.images[0].shape[:2]
    return Section(view, f"{width * view.pixel_aspect / height:.4f}", f"{reach:.2g}", _curves(view, reach))


def _curves(view: View, reach: float) -> Markup:
    """Curves of steering (above) and of pedals and speed (below)."""
    drawing = Drawing(WIDTH, 100)
    for y in (STEERING_MIDDLE, PEDAL_BOTTOM):
        drawing.horizontal_line(y, class_="zero")
    for column, name in ((1, "throttle"), (2, "brake")):
        points = _points(_thinned(view.actions[:, column]), PEDAL_BOTTOM, PEDAL_HEIGHT)
        ends = [(points[0][0], PEDAL_BOTTOM), *points, (points[-1][0], PEDAL_BOTTOM)]
        drawing.path(ends, closed=True, class_=name)
    drawing.path(_points(_thinned(view.actions[:, 0]) / reach, STEERING_MIDDLE, STEERING_HEIGHT), class_="steering")
    if view.speed is not None:
        most = max(float(np.nanmax(np.abs(view.speed))), 1e-6)
        drawing.path(_points(_thinned(np.abs(view.speed)) / most, PEDAL_BOTTOM, PEDAL_HEIGHT), class_="speed")
    return drawing.markup(stretched=True)


def _data(view: View) -> dict[str, Any]:
    """Data for the page's script: frame number, image and action of every image shown."""
    actions = [[round(float(value), 3) for value in view.actions[k]] for k in view.chosen]
    speed = None if view.speed is None else [_number(view.speed[k]) for k in view.chosen]
    return {
        "frames": view.drive.frames,
        "hz": view.hz,
        "at": view.chosen.tolist(),
        "actions": actions,
        "speed": speed,
        "unit": view.speed_unit,
        "images": [_source(image) for image in view.images],
    }


def _number(value: float) -> float | None:
    return round(float(value), 2) if np.isfinite(value) else None


def _source(image: Image) -> str:
    """The image as a JPEG data URI."""
    height, width = image.shape[:2]
    if height > TALLEST:
        size = (round(width * TALLEST / height), TALLEST)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return str(data_uri(encode(image), "image/jpeg"))


def _thinned(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """At most `POINTS` values: of each interval the one furthest from its mean, so that peaks are preserved."""
    good: npt.NDArray[np.float64] = np.nan_to_num(values.astype(np.float64))
    if len(good) <= POINTS:
        return good
    edges = np.linspace(0, len(good), POINTS + 1).astype(int)
    intervals = [good[a:b] for a, b in pairwise(edges)]
    return np.array([interval[np.argmax(np.abs(interval - interval.mean()))] for interval in intervals])


def _points(values: npt.NDArray[np.float64], bottom: float, height: float) -> list[tuple[float, float]]:
    """Points spaced evenly over the width; a value of 1 is `height` above `bottom`."""
    x = (np.arange(len(values)) + 0.5) / max(len(values), 1) * WIDTH
    y = bottom - height * np.clip(values, -1, 1)
    return list(zip(x.tolist(), y.tolist(), strict=True))
