"""A drive as one image: frames with the driver's actions, and the actions as curves below them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from daydrive.types import Image
from daydrive.viz.gallery.reading import View
from daydrive.viz.images import FAINT, Colour, enlarge, overlay_action, widen, write_on

WIDTH, MARGIN, LEFT, RIGHT = 1600, 18, 84, 96
MOST_TILES, LOWEST, TALLEST = 8, 90, 200
"""Maximum number of images in a row (fewer if they are wide); minimum and maximum height of one in pixels."""
STEERING_HEIGHT, PEDAL_HEIGHT = 96, 56
LETTERS = 15

STEERING, THROTTLE, BRAKE, SPEED = (38, 92, 178), (30, 140, 108), (200, 70, 20), (120, 124, 132)
GRID: Colour = (222, 224, 228)

Curve = npt.NDArray[np.floating]


def sheet(view: View) -> Image:
    """uint8 (H, 1600, 3): rows of up to `MOST_TILES` images, each with its section of the curves."""
    count = len(view.chosen)
    strips = -(-count // _side_by_side(view))
    edges = np.linspace(0, view.drive.frames, strips + 1).round().astype(int)
    rows: list[Image] = [_title(view)]
    tiles = [tile for image in view.images for tile in widen(image[None], view.pixel_aspect)]
    nearest = np.diff(view.chosen, append=view.chosen[0] + view.drive.frames).min()
    available = min(1.0, nearest / np.diff(edges).max()) * (WIDTH - LEFT - RIGHT) - 4
    height = int(np.clip(available * tiles[0].shape[0] / tiles[0].shape[1], 8, TALLEST))
    for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        here = [k for k in range(count) if first <= view.chosen[k] < last]
        rows.append(_tiles(view, [(k, tiles[k]) for k in here], first, last, height))
        rows.append(_curves(view, first, last))
    return np.concatenate(rows)


def _side_by_side(view: View) -> int:
    height, width = view.images[0].shape[:2]
    return int(np.clip((WIDTH - LEFT - RIGHT) // (LOWEST * width * view.pixel_aspect / height + 4), 1, MOST_TILES))


def _title(view: View) -> Image:
    canvas = _paper(3 * LETTERS)
    canvas = write_on(canvas, [(view.title, (MARGIN, 1.6 * LETTERS), "lm")], size=LETTERS + 3)
    legend: list[tuple[str, Colour]] = [("steering", STEERING), ("throttle", THROTTLE), ("brake", BRAKE)]
    if view.speed is not None:
        legend.append((f"speed {view.speed_unit}".strip(), SPEED))
    x = WIDTH - RIGHT
    for text, colour in reversed(legend):
        canvas = write_on(canvas, [(text, (x, 1.6 * LETTERS), "rm")], size=LETTERS, colour=colour, bold=True)
        x -= 12 * len(text) + 14
    return canvas


def _tiles(view: View, tiles: list[tuple[int, Image]], first: int, last: int, height: int) -> Image:
    """The images at their position on the time axis, each with steering wheel and pedals."""
    canvas = _paper(height + 6)
    for k, tile in tiles:
        shown = overlay_action(enlarge(tile, height), view.actions[view.chosen[k]], height=max(24, height // 4))
        middle = LEFT + (view.chosen[k] + 0.5 - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        x = int(np.clip(middle - shown.shape[1] / 2, 0, WIDTH - shown.shape[1]))
        canvas[:height, x : x + shown.shape[1]] = shown
    return canvas


def _curves(view: View, first: int, last: int) -> Image:
    """Steering (right is up); below it throttle and brake as areas and speed as a line."""
    top, gap = 6, 12
    bottom = top + STEERING_HEIGHT + gap + PEDAL_HEIGHT
    canvas = _paper(bottom + 3 * LETTERS)
    actions = view.actions[first:last].astype(np.float64)
    texts: list[tuple[str, tuple[float, float], str]] = []
    for second in _ticks(first / view.hz, last / view.hz):
        x = _across(second * view.hz - first, last - first)
        cv2.line(canvas, (x, top), (x, bottom), GRID, 1)
        texts.append((f"{second:g} s", (x, bottom + LETTERS), "mm"))
    reach = max(0.1, float(np.nanmax(np.abs(view.actions[:, 0]))))
    reach = min(1.0, np.ceil(reach * 10.0) / 10.0)
    middle = top + STEERING_HEIGHT // 2
    cv2.line(canvas, (LEFT, middle), (WIDTH - RIGHT, middle), FAINT, 1)
    _line(canvas, actions[:, 0] / reach, middle, STEERING_HEIGHT // 2, STEERING)
    texts += [
        (f"right {reach:g}", (LEFT - 8, top + 8), "rm"),
        (f"left {-reach:g}", (LEFT - 8, 2 * middle - top - 8), "rm"),
    ]
    for column, colour in ((1, THROTTLE), (2, BRAKE)):
        _area(canvas, actions[:, column], bottom, PEDAL_HEIGHT, colour)
    cv2.line(canvas, (LEFT, bottom), (WIDTH - RIGHT, bottom), FAINT, 1)
    texts += [("1", (LEFT - 8, bottom - PEDAL_HEIGHT + 6), "rm"), ("0", (LEFT - 8, bottom - 6), "rm")]
    if view.speed is not None:
        most = max(float(np.nanmax(np.abs(view.speed))), 1e-6)
        _line(canvas, np.abs(view.speed[first:last]) / most, bottom, PEDAL_HEIGHT, SPEED)
        texts.append((f"{most:.3g} {view.speed_unit}", (WIDTH - RIGHT + 6, bottom - PEDAL_HEIGHT + 6), "lm"))
    return write_on(canvas, texts, size=LETTERS - 2, colour=FAINT)


def _paper(height: int) -> Image:
    return np.full((height, WIDTH, 3), 255, dtype=np.uint8)


def _across(frame: float, frames: int) -> int:
    return round(LEFT + frame / max(frames, 1) * (WIDTH - LEFT - RIGHT))


def _points(values: Curve, bottom: int, height: int) -> npt.NDArray[np.int32]:
    """Points in sixteenths of a pixel; a value of 1 is `height` above `bottom`."""
    good = np.flatnonzero(np.isfinite(values))
    x = LEFT + (good + 0.5) / max(len(values), 1) * (WIDTH - LEFT - RIGHT)
    return np.round(16 * np.stack([x, bottom - height * values[good]], axis=1)).astype(np.int32)


def _line(canvas: Image, values: Curve, bottom: int, height: int, colour: Colour) -> None:
    cv2.polylines(canvas, [_points(values, bottom, height)], False, colour, 2, cv2.LINE_AA, 4)


def _area(canvas: Image, values: Curve, bottom: int, height: int, colour: Colour) -> None:
    points = _points(values, bottom, height)
    if len(points):
        ends = [[points[-1, 0], 16 * bottom], [points[0, 0], 16 * bottom]]
        drawn = canvas.copy()
        cv2.fillPoly(drawn, [np.concatenate([points, np.array(ends, dtype=np.int32)])], colour, cv2.LINE_AA, 4)
        cv2.addWeighted(drawn, 0.6, canvas, 0.4, 0.0, canvas)


def _ticks(first: float, last: float) -> list[float]:
    """About ten round times in [first, last], in seconds."""
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1e9) if (last - first) / s <= 12)
    return [round(k * step, 3) for k in range(int(np.ceil(first / step - 1e-9)), int(last / step + 1e-9) + 1)]
