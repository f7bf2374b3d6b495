"""Procedural sprites of trees and bushes: premultiplied float32 (h, w, 4), colour 0..255, alpha 0..1."""

from __future__ import annotations

import cv2
import numpy as np

SUPERSAMPLING = 2
"""Supersampling factor for antialiased edges."""


class Canvas:
    """A colour image with coverage, drawn with cv2 in pixel units of the final image."""

    def __init__(self, height: int, width: int) -> None:
        self.colour = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING, 3), np.float32)
        self.alpha = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.float32)

    def polygon(
        self, points: list[tuple[float, float]], colour: np.ndarray | tuple[float, ...], alpha: float = 1.0
    ) -> None:
        corners = [np.round(np.array(points) * SUPERSAMPLING).astype(np.int32)]
        cv2.fillPoly(self.colour, corners, tuple(float(c) for c in colour))
        cv2.fillPoly(self.alpha, corners, alpha)

    def rectangle(
        self, x0: float, y0: float, x1: float, y1: float, colour: tuple[float, ...], alpha: float = 1.0
    ) -> None:
        top, bottom, left, right = (max(round(v * SUPERSAMPLING), 0) for v in (y0, y1, x0, x1))
        self.colour[top:bottom, left:right] = colour
        self.alpha[top:bottom, left:right] = alpha

    def circle(self, x: float, y: float, radius: float, colour: np.ndarray | tuple[float, ...]) -> None:
        centre, r = (round(x * SUPERSAMPLING), round(y * SUPERSAMPLING)), max(round(radius * SUPERSAMPLING), 1)
        cv2.circle(self.colour, centre, r, tuple(float(c) for c in colour), -1)
        cv2.circle(self.alpha, centre, r, 1.0, -1)

    def line(
        self, a: tuple[float, float], b: tuple[float, float], width: float, colour: np.ndarray | tuple[float, ...]
    ) -> None:
        start, end = (tuple(round(v * SUPERSAMPLING) for v in p) for p in (a, b))
        thickness = max(round(width * SUPERSAMPLING), 1)
        cv2.line(self.colour, start, end, tuple(float(c) for c in colour), thickness)
        cv2.line(self.alpha, start, end, 1.0, thickness)

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: float) -> None:
        """Draw a soft dark ellipse below everything else."""
        height, width = self.alpha.shape
        yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
        radius = np.hypot((xx / SUPERSAMPLING - x) / rx, (yy / SUPERSAMPLING - y) / ry)
        self.alpha = np.maximum(self.alpha, strength * np.clip(1.4 - 1.4 * radius, 0, 1))

    def finish(self) -> np.ndarray:
        height, width = self.alpha.shape
        image = np.concatenate([self.colour * self.alpha[:, :, None], self.alpha[:, :, None]], axis=2)
        return cv2.resize(image, (width // SUPERSAMPLING, height // SUPERSAMPLING), interpolation=cv2.INTER_AREA)


def _trunk(canvas: Canvas, x: float, bottom: float, top: float, width: float, bark: np.ndarray) -> None:
    for i in range(5):
        shade = 1.15 - 0.17 * i
        left, right = -width + 2 * width * i / 5, -width + 2 * width * (i + 1) / 5
        canvas.polygon(
            [(x + left * 1.25, bottom), (x + right * 1.25, bottom), (x + right * 0.6, top), (x + left * 0.6, top)],
            bark * shade,
        )


def _leaves(
    canvas: Canvas,
    rng: np.random.Generator,
    centre: tuple[float, float],
    radii: tuple[float, float],
    clumps: int,
    green: np.ndarray,
) -> None:
    """Draw a crown of leaf clumps, lit from the upper left, darker inside and below."""
    angle, reach = rng.uniform(0, 2 * np.pi, clumps), np.sqrt(rng.uniform(0, 1, clumps)) * 0.86
    px, py = np.cos(angle) * reach, np.sin(angle) * reach
    for i in np.argsort(-py + 0.35 * rng.random(clumps)):
        size = radii[0] * rng.uniform(0.16, 0.28)
        x, y = centre[0] + px[i] * radii[0], centre[1] + py[i] * radii[1]
        for _ in range(11):
            ox, oy = rng.normal(0, 0.6, 2) * size
            lit = -0.42 * (px[i] + ox / radii[0]) - 0.62 * (py[i] + 1.6 * oy / radii[1]) + rng.normal(0, 0.10)
            shade = min(max(0.80 + 0.48 * lit, 0.36), 1.35)
            canvas.circle(x + ox, y + oy, size * rng.uniform(0.22, 0.42), green * shade)


def broadleaf(seed: int, green: tuple[int, int, int], slim: float = 1.0) -> np.ndarray:
    """A broad-leaved tree; `slim` below 1 makes it a poplar."""
    rng = np.random.default_rng([seed, 21])
    height, width = 160, round(136 * slim) + 8
    canvas, x = Canvas(height, width), width / 2
    canvas.shadow(x, height - 4, width * 0.46, 4, 0.5)
    bark = np.array(rng.choice([(92, 74, 58), (104, 92, 80), (84, 66, 50)]), np.float64)
    _trunk(canvas, x, height - 4, 70, 4.5 * (0.6 + 0.4 * slim), bark)
    for _ in range(7):
        canvas.line((x, rng.uniform(85, 120)), (x + rng.normal(0, 26) * slim, rng.uniform(40, 80)), 1.6, bark * 0.8)
    tint = np.array(green, np.float64) * rng.uniform(0.9, 1.1)
    lobes = 4 if slim > 0.6 else 6
    for k in range(lobes):
        y = (96 - 64 * k / (lobes - 1)) if slim > 0.6 else (116 - 92 * k / (lobes - 1))
        dx = 0.0 if k == lobes - 1 else rng.normal(0, 0.13) * width
        wide = (0.30 + 0.07 * rng.random()) * width if slim > 0.6 else 0.40 * width * (1 - 0.55 * k / lobes)
        _leaves(canvas, rng, (x + dx, y), (wide, 30 if slim > 0.6 else 22), 26, tint)
    return canvas.finish()


def conifer(seed: int, green: tuple[int, int, int]) -> np.ndarray:
    """A spruce: tiers of drooping branches around a straight trunk."""
    rng = np.random.default_rng([seed, 22])
    height, width = 176, 92
    canvas, x = Canvas(height, width), width / 2
    canvas.shadow(x, height - 4, width * 0.44, 4, 0.5)
    _trunk(canvas, x, height - 4, 60, 3.4, np.array((78, 60, 46), np.float64))
    tint = np.array(green, np.float64)
    tiers = 30
    for tier in range(tiers):
        t = tier / (tiers - 1)
        y = height - 24 - (height - 32) * t
        reach = (width * 0.46) * (1 - t) ** 0.85 * rng.uniform(0.8, 1.08) + 1.5
        for _ in range(20):
            out = rng.uniform(-1, 1)
            end = (x + out * reach, y + abs(out) * 8 * (1 - 0.6 * t) + rng.normal(0, 2.0))
            shade = 0.82 - 0.34 * out + 0.16 * t + rng.normal(0, 0.12)
            canvas.line((x + out * reach * 0.25, y - 6), end, 1.7, tint * min(max(shade, 0.35), 1.4))
    return canvas.finish()


def birch(seed: int, green: tuple[int, int, int]) -> np.ndarray:
    """A slender tree with a white trunk and a light crown."""
    rng = np.random.default_rng([seed, 23])
    height, width = 160, 84
    canvas, x = Canvas(height, width), width / 2
    canvas.shadow(x, height - 4, width * 0.40, 3.5, 0.45)
    _trunk(canvas, x, height - 4, 30, 2.6, np.array((206, 204, 196), np.float64))
    for _ in range(16):
        y = rng.uniform(60, height - 8)
        canvas.line((x - 2, y), (x + rng.uniform(-1, 2), y), 1.2, (60, 58, 54))
    for k in range(5):
        _leaves(canvas, rng, (x + rng.normal(0, 7), 104 - 19 * k), (27 - 3 * k, 18), 15, np.array(green, np.float64))
    return canvas.finish()


def bush(seed: int, green: tuple[int, int, int]) -> np.ndarray:
    """A low bush."""
    rng = np.random.default_rng([seed, 24])
    canvas = Canvas(64, 96)
    canvas.shadow(48, 58, 44, 5, 0.5)
    for x, y, r in ((30, 42, 20), (64, 44, 22), (46, 32, 22)):
        _leaves(canvas, rng, (x + rng.normal(0, 3), y), (r, 17), 22, np.array(green, np.float64))
    return canvas.finish()


def grass_tuft(seed: int, green: tuple[int, int, int]) -> np.ndarray:
    """Tall grass on the verge."""
    rng = np.random.default_rng([seed, 25])
    canvas = Canvas(32, 64)
    for _ in range(90):
        x = rng.normal(32, 11)
        tip = (x + rng.normal(0, 6), rng.uniform(2, 20))
        canvas.line((x, 31), tip, 0.8, np.array(green, np.float64) * rng.uniform(0.6, 1.25))
    return canvas.finish()


def paste(target: np.ndarray, sprite: np.ndarray, x: int, bottom: int, shade: float) -> None:
    """Composite a premultiplied sprite over another in place, wrapping around horizontally."""
    height, width = sprite.shape[:2]
    rows = slice(bottom - height, bottom)
    columns = np.arange(x, x + width) % target.shape[1]
    below = target[rows, columns]
    above = sprite * np.array([shade, shade, shade, 1.0], np.float32)
    target[rows, columns] = below * (1 - above[:, :, 3:]) + above


def forest_edge(seed: int, trees: list[np.ndarray]) -> np.ndarray:
    """A section of forest edge, horizontally tileable."""
    rng = np.random.default_rng([seed, 26])
    height, width = 128, 320
    wall = np.zeros((height, width, 4), np.float32)
    ragged = 44 + 10 * np.sin(np.arange(width) * 2 * np.pi / width * 3 + rng.uniform(0, 6))
    inside = np.arange(height)[:, None] > ragged[None]
    wall[inside] = (20, 30, 18, 1)
    for row, (count, low, high, shade) in enumerate(
        ((16, 0.5, 0.62, 0.55), (16, 0.55, 0.7, 0.75), (12, 0.45, 0.66, 0.95))
    ):
        for i in range(count):
            tree = trees[int(rng.integers(len(trees)))]
            size = rng.uniform(low, high) * 150 / len(tree)
            small = cv2.resize(tree, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
            x = round(width * (i + rng.uniform(-0.3, 0.3)) / count)
            paste(wall, small, x, height - 14 + 7 * row, shade * rng.uniform(0.9, 1.08))
    return wall
