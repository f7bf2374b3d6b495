"""Procedural sprites of roadside objects: signs, posts, rails, lamps, houses. Format as in `plants`."""

from __future__ import annotations

import numpy as np

from daydrive.envs.road.plants import SUPERSAMPLING, Canvas

POLE = (128, 130, 132)
EMISSIVE = 700.0
"""Colour of light sources: far above 255, so that they stay bright in dim daylight."""


def _pole(canvas: Canvas, x: float, top: float, bottom: float, width: float = 1.5) -> None:
    canvas.rectangle(x - width, top, x + width, bottom, POLE)
    canvas.rectangle(x - width, top, x - width * 0.3, bottom, (168, 170, 172))


SEGMENTS = {"0": "abcdef", "3": "abcdg", "5": "afgcd", "7": "abc", "8": "abcdefg", "1": "bc"}
STROKES = {
    "a": ((0, 0), (1, 0)), "b": ((1, 0), (1, 1)), "c": ((1, 1), (1, 2)), "d": ((0, 2), (1, 2)),
    "e": ((0, 1), (0, 2)), "f": ((0, 0), (0, 1)), "g": ((0, 1), (1, 1)),
}  # fmt: skip


def _draw_digits(canvas: Canvas, text: str, x: float, y: float, size: float) -> None:
    """Draw digits with straight strokes, `size` high, centred on (x, y)."""
    step = size / 2
    for i, digit in enumerate(text):
        left, top = x + (i - len(text) / 2) * step * 1.7 + 0.35 * step, y - step
        for (ax, ay), (bx, by) in (STROKES[s] for s in SEGMENTS[digit]):
            start, end = (left + ax * step, top + ay * step), (left + bx * step, top + by * step)
            canvas.line(start, end, size / 6, (20, 20, 20))


def round_sign(text: str) -> np.ndarray:
    """Speed limit sign: red ring, black number."""
    canvas = Canvas(120, 48)
    _pole(canvas, 24, 24, 120)
    canvas.circle(24, 24, 23, (200, 24, 30))
    canvas.circle(24, 24, 17.5, (240, 240, 236))
    _draw_digits(canvas, text, 24, 24, 15)
    return canvas.finish()


def warning_sign() -> np.ndarray:
    """Warning sign: red triangle."""
    canvas = Canvas(120, 48)
    _pole(canvas, 24, 30, 120)
    canvas.polygon([(24, 2), (47, 42), (1, 42)], (200, 24, 30))
    canvas.polygon([(24, 11), (40, 38.5), (8, 38.5)], (242, 242, 238))
    canvas.rectangle(22, 19, 26, 31, (20, 20, 20))
    canvas.rectangle(22, 33, 26, 36.5, (20, 20, 20))
    return canvas.finish()


def board_sign(colour: tuple[int, int, int], ink: tuple[int, int, int]) -> np.ndarray:
    """A town or direction sign on two poles."""
    canvas = Canvas(104, 120)
    _pole(canvas, 22, 20, 104)
    _pole(canvas, 98, 20, 104)
    canvas.rectangle(2, 2, 118, 58, ink)
    canvas.rectangle(5, 5, 115, 55, colour)
    for y, right in ((15, 96), (33, 72)):
        canvas.rectangle(16, y, right, y + 9, ink)
        for x in range(24, right, 11):
            canvas.rectangle(x, y, x + 2.5, y + 9, colour)
    return canvas.finish()


def chevron(right: bool) -> np.ndarray:
    """Bend marker: white arrowheads on red."""
    canvas = Canvas(96, 80)
    _pole(canvas, 14, 30, 96)
    _pole(canvas, 66, 30, 96)
    canvas.rectangle(1, 4, 79, 52, (196, 26, 30))
    for x in (10, 42):
        tip, back = (x + 26, x) if right else (x, x + 26)
        mid = back + (12 if right else -12)
        canvas.polygon(
            [(back, 6), (mid, 6), (tip, 28), (mid, 50), (back, 50), (tip - (mid - back), 28)], (240, 240, 236)
        )
    return canvas.finish()


def delineator() -> np.ndarray:
    """White roadside post with a black band and a reflector."""
    canvas = Canvas(88, 16)
    canvas.shadow(8, 85, 8, 3, 0.5)
    canvas.polygon([(2, 86), (14, 86), (13, 2), (4, 5)], (236, 236, 232))
    canvas.polygon([(10, 86), (14, 86), (13, 2), (10, 3)], (196, 198, 200))
    canvas.polygon([(3, 34), (13.5, 28), (13.5, 48), (3, 54)], (28, 28, 30))
    canvas.rectangle(6, 34, 11, 46, (300, 220, 170))
    return canvas.finish()


def street_lamp(lit: bool) -> np.ndarray:
    """A lamp on a bent pole, its head to the left."""
    canvas = Canvas(192, 64)
    canvas.shadow(50, 188, 12, 3, 0.4)
    _pole(canvas, 50, 18, 190, 1.8)
    canvas.line((50, 18), (26, 8), 2.4, POLE)
    canvas.polygon([(8, 8), (28, 5), (28, 12), (10, 13)], (96, 98, 100))
    canvas.rectangle(10, 11, 26, 15, (EMISSIVE, EMISSIVE * 0.85, EMISSIVE * 0.55) if lit else (206, 208, 206))
    return canvas.finish()


def power_pole() -> np.ndarray:
    """A wooden pole with a crossbar and insulators."""
    canvas = Canvas(192, 64)
    canvas.shadow(32, 188, 14, 3, 0.45)
    for i in range(4):
        canvas.polygon(
            [(28.5 + 2 * i, 190), (30.5 + 2 * i, 190), (31.6 + i * 1.2, 2), (30.4 + i * 1.2, 2)],
            (112 - 14 * i, 92 - 12 * i, 72 - 10 * i),
        )
    canvas.rectangle(8, 16, 56, 20, (92, 76, 60))
    for x in (12, 32, 52):
        canvas.rectangle(x - 1.5, 9, x + 1.5, 16, (188, 196, 190))
    return canvas.finish()


def glow(colour: tuple[float, float, float]) -> np.ndarray:
    """Glow around a lamp: purely additive, alpha 0."""
    yy, xx = np.mgrid[-1:1:48j, -1:1:48j].astype(np.float32)
    radius = np.hypot(xx, yy)
    strength = np.clip(1 - radius, 0, 1) ** 2.2 * 0.55 + np.clip(1 - radius / 0.28, 0, 1) ** 1.5
    return np.concatenate(
        [strength[:, :, None] * np.array(colour, np.float32), np.zeros((48, 48, 1), np.float32)], axis=2
    )


def guard_rail() -> np.ndarray:
    """Eight metres of rail, 0.8 m high."""
    canvas = Canvas(32, 256)
    for x in (16, 80, 144, 208):
        canvas.rectangle(x - 2, 6, x + 2, 32, (116, 118, 120))
    for y, tone in ((3, 196), (6, 222), (9, 168), (11, 206), (14, 180), (16, 136)):
        canvas.rectangle(0, y, 256, y + 3.2, (tone, tone + 1, tone + 4))
    return canvas.finish()


def fence() -> np.ndarray:
    """Twelve metres of a wooden paddock fence."""
    canvas = Canvas(40, 320)
    for y in (8, 20, 30):
        canvas.rectangle(0, y, 320, y + 3.5, (134, 112, 86))
        canvas.rectangle(0, y + 2.4, 320, y + 3.6, (92, 76, 58))
    for x in (27, 80, 133, 187, 240, 293):
        canvas.rectangle(x - 3, 3, x + 3, 40, (112, 92, 70))
    return canvas.finish()


def _window(
    canvas: Canvas, x: float, y: float, w: float, h: float, lit: bool, shutters: tuple[int, int, int] | None
) -> None:
    if shutters:
        canvas.rectangle(x - w * 0.5, y - 1, x + w * 1.5, y + h + 1, shutters)
    canvas.rectangle(x - 1.5, y - 1.5, x + w + 1.5, y + h + 2.5, (228, 226, 220))
    for row in range(int(h)):
        tone = (EMISSIVE, EMISSIVE * 0.72, EMISSIVE * 0.36) if lit else tuple(c - 50 * row / h for c in (96, 116, 136))
        canvas.rectangle(x, y + row, x + w, y + row + 1, tone)
    canvas.rectangle(x + w / 2 - 0.6, y, x + w / 2 + 0.6, y + h, (228, 226, 220))
    canvas.rectangle(x, y + h / 2 - 0.6, x + w, y + h / 2 + 0.6, (228, 226, 220))


def _plaster(canvas: Canvas, rng: np.random.Generator, colour: tuple[int, int, int]) -> None:
    height, width = canvas.alpha.shape
    grain = 1 + rng.normal(0, 0.02, (height, width, 1)) - 0.10 * (np.arange(height) / height)[:, None, None] ** 3
    canvas.colour[:] = np.array(colour) * grain
    canvas.alpha[:] = 1
    canvas.colour[-10 * SUPERSAMPLING :] *= 0.62


def house_wall(seed: int, colour: tuple[int, int, int], storeys: int, lit: bool) -> np.ndarray:
    """The long wall of a house: windows, a door, a darker base. About 16 pixels per metre."""
    rng = np.random.default_rng([seed, 31])
    height, width = 48 * storeys, 176
    canvas = Canvas(height, width)
    _plaster(canvas, rng, colour)
    shutters = [None, (74, 96, 78), (120, 66, 50), (70, 84, 110)][int(rng.integers(4))]
    door = int(rng.integers(4))
    for storey in range(storeys):
        for i in range(4):
            x, y = 18 + 40 * i, 13 + 48 * (storeys - 1 - storey)
            if storey == 0 and i == door:
                canvas.rectangle(x - 1, y - 2, x + 19, height, (226, 222, 214))
                canvas.rectangle(x + 1, y, x + 17, height, (104, 66, 44))
            else:
                _window(canvas, x, y, 16, 21, lit and rng.random() < 0.6, shutters)
    return canvas.finish()


def house_gable(seed: int, colour: tuple[int, int, int], storeys: int, lit: bool) -> np.ndarray:
    """The short wall with the triangle of the gable, 32 pixels high, above it."""
    rng = np.random.default_rng([seed, 32])
    height, width = 48 * storeys + 48, 128
    canvas = Canvas(height, width)
    _plaster(canvas, rng, colour)
    rows, columns = np.mgrid[0 : height * SUPERSAMPLING, 0 : width * SUPERSAMPLING] / SUPERSAMPLING
    canvas.alpha[rows < 48 * np.abs(columns - width / 2) / (width / 2)] = 0
    _window(canvas, 57, 28, 13, 16, lit, None)
    for storey in range(storeys):
        for x in (26, 86):
            _window(canvas, x, 60 + 48 * storey, 16, 21, lit and rng.random() < 0.5, None)
    return canvas.finish()


def roof(seed: int, colour: tuple[int, int, int]) -> np.ndarray:
    """One slope of tiles."""
    rng = np.random.default_rng([seed, 33])
    height, width = 80, 176
    canvas = Canvas(height, width)
    canvas.alpha[:] = 1
    rows, columns = np.mgrid[0 : height * SUPERSAMPLING, 0 : width * SUPERSAMPLING]
    course = (rows // (5 * SUPERSAMPLING)).astype(int)
    tone = (
        1
        - 0.22 * ((rows % (5 * SUPERSAMPLING)) / (5 * SUPERSAMPLING))
        + 0.05 * np.sin((columns + course * 5) * 2 * np.pi / (6 * SUPERSAMPLING))
    )
    tone *= 0.92 + 0.14 * rng.random((height * SUPERSAMPLING // 10 + 1, width))[course, columns // SUPERSAMPLING]
    canvas.colour[:] = np.array(colour) * tone[:, :, None]
    return canvas.finish()
