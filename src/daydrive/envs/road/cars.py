"""Vehicle models: boxes with painted faces for cars, vans, lorries and buses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daydrive.envs.road.plants import Canvas
from daydrive.envs.road.props import EMISSIVE

Colour = tuple[int, int, int]
BODY_COLOURS: tuple[Colour, ...] = (
    (190, 30, 32), (226, 228, 230), (40, 44, 52), (36, 76, 150), (150, 154, 160), (196, 158, 40), (30, 96, 80),
    (110, 60, 44),
)  # fmt: skip
GLASS = (46, 60, 74)
TYRE = (24, 24, 26)


@dataclass(frozen=True)
class Body:
    """Dimensions in metres. A car has a bonnet, windscreen and rear window; a `box` (van, lorry, bus) has flat ends."""

    length: float
    width: float
    height: float
    waist: float
    bonnet: float
    windscreen: float
    rear_window: float
    boot: float
    box: bool


BODIES: dict[str, Body] = {
    "car": Body(4.3, 1.8, 1.45, 0.92, 1.05, 0.75, 0.55, 0.25, False),
    "saloon": Body(4.7, 1.8, 1.42, 0.92, 1.15, 0.80, 0.65, 0.75, False),
    "estate": Body(4.6, 1.85, 1.62, 0.98, 1.05, 0.70, 0.30, 0.05, False),
    "van": Body(5.2, 2.0, 2.3, 1.2, 0.0, 0.0, 0.0, 0.0, True),
    "lorry": Body(8.5, 2.4, 3.3, 1.4, 0.0, 0.0, 0.0, 0.0, True),
    "bus": Body(10.5, 2.5, 3.1, 1.3, 0.0, 0.0, 0.0, 0.0, True),
}
KINDS = ("car", "car", "saloon", "estate", "van", "lorry", "bus")
PIXELS = 26
"""Resolution of the painted faces, in pixels per metre."""


def _shade(colour: Colour, factor: float) -> tuple[float, ...]:
    return tuple(c * factor for c in colour)


def side_face(body: Body, body_colour: Colour, kind: str) -> np.ndarray:
    """Right side of a vehicle, front to the right, with wheels and windows; transparent outside the outline."""
    width, height = round(body.length * PIXELS), round(body.height * PIXELS)
    canvas = Canvas(height, width)
    p = PIXELS

    def at(x: float, z: float) -> tuple[float, float]:
        return (x * p, height - z * p)

    waist, top = body.waist, body.height
    if body.box:
        canvas.polygon(
            [at(0, 0.35), at(0, top), at(body.length - 0.25, top), at(body.length, waist), at(body.length, 0.35)],
            body_colour,
        )
        if kind == "bus":
            canvas.polygon(
                [at(0.3, 1.5), at(0.3, top - 0.45), at(body.length - 0.5, top - 0.45), at(body.length - 0.3, 1.5)],
                GLASS,
            )
            for i in range(1, 8):
                canvas.rectangle(
                    i * 1.3 * p - 1,
                    height - (top - 0.45) * p,
                    i * 1.3 * p + 1,
                    height - 1.5 * p,
                    _shade(body_colour, 0.7),
                )
        else:
            cab = body.length - (1.9 if kind == "lorry" else 1.5)
            canvas.rectangle(cab * p - 1, height - top * p, cab * p + 1, height - 0.4 * p, _shade(body_colour, 0.5))
            low, high = (1.7, 2.6) if kind == "lorry" else (1.25, 2.0)
            canvas.polygon(
                [at(cab + 0.3, low), at(cab + 0.3, high), at(body.length - 0.3, high), at(body.length - 0.1, low)],
                GLASS,
            )
    else:
        front, rear = body.length - body.bonnet, body.boot
        canvas.polygon(
            [at(0, 0.3), at(0.02, waist), at(front, waist), at(body.length, waist - 0.18), at(body.length, 0.3)],
            body_colour,
        )
        canvas.polygon(
            [at(rear, waist), at(rear + body.rear_window, top), at(front - body.windscreen, top), at(front, waist)],
            body_colour,
        )
        canvas.polygon(
            [
                at(rear + 0.22, waist),
                at(rear + body.rear_window + 0.1, top - 0.1),
                at(front - body.windscreen - 0.02, top - 0.1),
                at(front - 0.2, waist),
            ],
            GLASS,
        )
        middle = (rear + front) / 2 - 0.1
        canvas.rectangle(
            middle * p - 1.5, height - top * p + 2, middle * p + 1.5, height - waist * p, _shade(body_colour, 0.8)
        )
        canvas.rectangle(2, height - waist * p + 1, front * p, height - waist * p + 2.5, _shade(body_colour, 1.25))
    canvas.rectangle(0, height - 0.52 * p, width, height - 0.30 * p, _shade(body_colour, 0.55))
    canvas.rectangle(0, height - (waist - 0.02) * p, 0.14 * p, height - (waist - 0.28) * p, (150, 20, 20))
    radius = 0.48 if body.box else 0.34
    for x in (0.85 if not body.box else 1.3, body.length - (0.85 if not body.box else 1.0)):
        canvas.circle(x * p, height - radius * p, radius * p * 1.12, _shade(body_colour, 0.25))
        canvas.circle(x * p, height - radius * p, radius * p, TYRE)
        canvas.circle(x * p, height - radius * p, radius * p * 0.58, (142, 144, 148))
    return canvas.finish()


def end_face(body: Body, body_colour: Colour, front: bool, braking: bool, lamps: bool) -> np.ndarray:
    """Lower front or rear, up to the waist of a car or the roof of a box, with lamps, number plate and tyres."""
    high = body.height if body.box else body.waist
    width, height = round(body.width * PIXELS), round(high * PIXELS)
    canvas, p = Canvas(height, width), PIXELS
    for x in (0.08, body.width - 0.32):
        canvas.rectangle(x * p, height - 0.4 * p, (x + 0.24) * p, height, TYRE)
    for row in range(round(height - 0.28 * p)):
        canvas.rectangle(0, row, width, row + 1, _shade(body_colour, 1.06 - 0.35 * row / height))
    canvas.rectangle(0, height - 0.50 * p, width, height - 0.26 * p, (40, 42, 46))
    if body.box and front:
        canvas.rectangle(0.12 * p, 0.5 * p, width - 0.12 * p, height - body.waist * p, GLASS)
    elif body.box:
        canvas.rectangle(width / 2 - 1, 0.2 * p, width / 2 + 1, height - 0.6 * p, _shade(body_colour, 0.55))
        canvas.rectangle(0.3 * p, 0.4 * p, width - 0.3 * p, 0.9 * p, GLASS)
    lamp = height - (0.72 if body.box else body.waist - 0.10) * p
    lamp_height = 0.24 * p
    if front:
        colour: tuple[float, ...] = (EMISSIVE, EMISSIVE * 0.95, EMISSIVE * 0.8) if lamps else (236, 240, 242)
        canvas.rectangle(width * 0.34, lamp + 0.1 * p, width * 0.66, lamp + 0.3 * p, (30, 32, 36))
    else:
        colour = (EMISSIVE, 60, 40) if braking else ((420, 24, 18) if lamps else (160, 16, 18))
        if braking:
            canvas.rectangle(width * 0.4, 1, width * 0.6, 3.5, (EMISSIVE, 60, 40))
    for x in (0.06, body.width - 0.44):
        canvas.rectangle(x * p, lamp, (x + 0.38) * p, lamp + lamp_height, colour)
    canvas.rectangle(width / 2 - 0.26 * p, height - 0.46 * p, width / 2 + 0.26 * p, height - 0.32 * p, (236, 234, 222))
    return canvas.finish()


def window_face(body: Body, body_colour: Colour) -> np.ndarray:
    """Windscreen or rear window with its frame, brighter towards the top, where it reflects the sky."""
    width, height = round(body.width * PIXELS), round(0.8 * PIXELS)
    canvas, p = Canvas(height, width), PIXELS
    inset = 0.16 * p
    canvas.polygon([(inset, 0), (width - inset, 0), (width, height), (0, height)], body_colour)
    for row in range(2, height - 1):
        edge = inset * (1 - row / height) + 2.5
        canvas.rectangle(edge, row, width - edge, row + 1, tuple(c * (1.6 - 0.8 * row / height) for c in GLASS))
    return canvas.finish()


def flat_face(body_colour: Colour, shade: float) -> np.ndarray:
    """Bonnet or roof: one plain colour."""
    canvas = Canvas(16, 24)
    canvas.rectangle(0, 0, 24, 16, _shade(body_colour, shade))
    return canvas.finish()


def shadow_face() -> np.ndarray:
    """Shadow on the ground under a vehicle."""
    rows, columns = np.mgrid[-1:1:32j, -1:1:48j].astype(np.float32)
    edge = np.clip((1 - np.maximum(np.abs(rows), np.abs(columns))) * 5, 0, 1) * 0.62
    return np.concatenate([np.zeros((32, 48, 3), np.float32), edge[:, :, None]], axis=2)


def faces(
    kind: str,
) -> list[tuple[str, tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]]:
    """Faces of a vehicle: (name, upper left corner, right edge, downward edge), each as seen from outside.

    Local axes in metres: forward, right, up, with the origin on the ground below the centre.
    """
    b = BODIES[kind]
    h, w = b.length / 2, b.width / 2
    top, waist = b.height, (b.height if b.box else b.waist)
    out = [
        ("shadow", (h * 1.05, -w * 1.12, 0.02), (0.0, w * 2.24, 0.0), (-h * 2.1, 0.0, 0.0)),
        ("right", (-h, w, top), (2 * h, 0.0, 0.0), (0.0, 0.0, -top)),
        ("left", (h, -w, top), (-2 * h, 0.0, 0.0), (0.0, 0.0, -top)),
        ("rear", (-h, -w, waist), (0.0, 2 * w, 0.0), (0.0, 0.0, -waist)),
        ("front", (h, w, waist), (0.0, -2 * w, 0.0), (0.0, 0.0, -waist)),
    ]
    if b.box:
        return [*out, ("roof", (h, -w, top), (0.0, 2 * w, 0.0), (-2 * h, 0.0, 0.0))]
    rear_top, front_top = -h + b.boot + b.rear_window, h - b.bonnet - b.windscreen
    rise = top - b.waist
    return [
        *out,
        ("bonnet", (h, -w, b.waist), (0.0, 2 * w, 0.0), (-b.bonnet, 0.0, 0.0)),
        ("boot", (-h + b.boot, -w, b.waist), (0.0, 2 * w, 0.0), (-b.boot, 0.0, 0.0)),
        ("rear_window", (rear_top, -w, top), (0.0, 2 * w, 0.0), (-b.rear_window, 0.0, -rise)),
        ("windscreen", (front_top, w, top), (0.0, -2 * w, 0.0), (b.windscreen, 0.0, -rise)),
        ("roof", (front_top, -w, top), (0.0, 2 * w, 0.0), (rear_top - front_top, 0.0, 0.0)),
    ]
