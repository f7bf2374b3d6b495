"""The road: centreline, elevation and terrain beside it, all pure functions of a seed.

World axes in metres: x and y horizontal with y to the right of x, z up. Headings increase to the right
(clockwise seen from above), so curvature, lateral offset, heading error and steering are all
positive to the right. Road coordinates are (s, d): arc length along the centreline and lateral
offset from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from daydrive.envs.road.arrays import clamp
from daydrive.envs.road.noise import smooth_noise

LANE_WIDTH = 3.5
LANE_CENTRE = LANE_WIDTH / 2
ASPHALT_EDGE = 3.95
VERGE_EDGE = 5.2
LENGTH = 12_000
MARGIN = 400
"""Length of road (m) before the start and after the end, so that the road always fills the view."""

COARSE = 16
BANK_START = 7.0
X, Y, TX, TY, CURVATURE, HEIGHT, LEFT, RIGHT = range(8)


@dataclass(frozen=True, eq=False)
class Road:
    """A road sampled every metre.

    samples: (LENGTH, 8): x, y, tangent x and y, curvature, height, bank heights left and right. deltas: differences to
    the next row. heading: (LENGTH,), rad.
    """

    seed: int
    samples: np.ndarray
    deltas: np.ndarray
    heading: np.ndarray

    def sample(self, s: float) -> list[float]:
        """Row of `samples` at arc length s (m), linearly interpolated."""
        i = min(max(int(s), 0), LENGTH - 2)
        f = s - i
        return [a + b * f for a, b in zip(self.samples[i].tolist(), self.deltas[i].tolist(), strict=True)]

    def _value(self, s: float, column: int) -> float:
        i = min(max(int(s), 0), LENGTH - 2)
        return self.samples.item(i, column) + self.deltas.item(i, column) * (s - i)

    def heading_at(self, s: float) -> float:
        i = min(max(int(s), 0), LENGTH - 2)
        low, high = float(self.heading[i]), float(self.heading[i + 1])
        return low + (high - low) * (s - i)

    def curvature_at(self, s: float) -> float:
        return self.samples.item(min(max(int(s), 0), LENGTH - 1), CURVATURE)

    def max_curvature(self, s: float, reach: float) -> float:
        """Maximum absolute curvature (1/m) within `reach` metres after s."""
        first = min(max(int(s), 0), LENGTH - 2)
        return float(np.abs(self.samples[first : first + max(int(reach), 1) : 6, CURVATURE]).max())

    def world(self, s: float, d: float) -> tuple[float, float]:
        """World coordinates (x, y) of the road coordinates (s, d)."""
        x, y, tx, ty, *_ = self.sample(s)
        norm = math.hypot(tx, ty)
        return x - ty * d / norm, y + tx * d / norm

    def locate(self, x: float, y: float, s: float) -> tuple[float, float]:
        """Road coordinates of a world point, by Newton steps from a nearby arc length s."""
        d = 0.0
        for _ in range(3):
            cx, cy, tx, ty, curvature, *_ = self.sample(s)
            norm = math.hypot(tx, ty)
            dx, dy = x - cx, y - cy
            d = (dy * tx - dx * ty) / norm
            s += min(max((dx * tx + dy * ty) / norm / max(1 - curvature * d, 0.2), -8.0), 8.0)
            s = min(max(s, 1.0), LENGTH - 2.0)
        return s, d

    def project(
        self, x: np.ndarray, y: np.ndarray, s: float, reach: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Road coordinates and ground height of a batch of world points.

        x, y: (N,) within `reach` metres of the road at arc length s. Returns s, d, z, each (N,).
        """
        first = max(int(s - reach), 0)
        coarse = self.samples[first : int(s + reach) + 1 : COARSE]
        ox, oy = coarse[0, X], coarse[0, Y]
        centres = np.empty((3, len(coarse)), np.float32)
        centres[0], centres[1] = coarse[:, X] - ox, coarse[:, Y] - oy
        centres[2] = -0.5 * (centres[0] ** 2 + centres[1] ** 2)
        points = np.ones((len(x), 3), np.float32)
        points[:, 0], points[:, 1] = x - ox, y - oy
        near = (points @ centres).argmax(axis=1)
        row = coarse[near]
        dx, dy = x - row[:, X], y - row[:, Y]
        along = dx * row[:, TX] + dy * row[:, TY]
        across = dy * row[:, TX] - dx * row[:, TY]
        position = first + COARSE * near + clamp(along / np.maximum(1 - row[:, CURVATURE] * across, 0.3), -13.0, 13.0)
        position = clamp(position, 0, LENGTH - 2.001)
        index = position.astype(np.intp)
        row = self.samples[index]
        row += self.deltas[index] * (position - index)[:, None]
        dx, dy = x - row[:, X], y - row[:, Y]
        across = dy * row[:, TX] - dx * row[:, TY]
        along = dx * row[:, TX] + dy * row[:, TY]
        position += clamp(along / np.maximum(1 - row[:, CURVATURE] * across, 0.5), -3.0, 3.0)
        return position, across, row[:, HEIGHT] + bank(across, row[:, LEFT], row[:, RIGHT])

    def ground(self, s: float, d: float) -> float:
        """Height of the ground (m) at road coordinates (s, d)."""
        height = self._value(s, HEIGHT)
        if abs(d) <= BANK_START:
            return height
        return height + self._value(s, RIGHT if d > 0 else LEFT) * (1 - math.exp((BANK_START - abs(d)) / 35))


def bank(d: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Height (m) of the terrain above the road at lateral offset d: 0 on the road, `left`/`right` far away."""
    beyond = np.maximum(np.abs(d) - BANK_START, 0)
    return np.where(d > 0, right, left) * (1 - np.exp(beyond * (-1 / 35)))


def _curvature(rng: np.random.Generator) -> np.ndarray:
    """Curvature per metre: bends and straights with smooth transitions, heading within about 60 degrees of x."""
    curvature = np.zeros(LENGTH)
    sharpness = rng.uniform(0.7, 1.3)
    s, heading = 0, 0.0
    while s < LENGTH:
        length = int(rng.uniform(50, 170))
        if s > MARGIN - 60 and rng.random() > 0.22:
            turn = min(sharpness / rng.uniform(55, 240), 1 / 50)
            sign = 1.0 if rng.random() < 0.5 else -1.0
            if abs(heading) > 0.45:
                sign = -math.copysign(1.0, heading)
            length = min(length, int(1.1 / turn))
            curvature[s : s + length] = sign * turn
            heading += sign * turn * length
        s += length
    kernel = np.hanning(45)
    return np.convolve(curvature, kernel / kernel.sum(), mode="same")


@lru_cache(maxsize=8)
def build_road(seed: int) -> Road:
    """Generate the road of a seed."""
    rng = np.random.default_rng([seed, 1])
    curvature = _curvature(rng)
    heading = np.cumsum(curvature) - curvature / 2
    x, y = np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))
    s = np.arange(LENGTH)
    height = np.zeros(LENGTH)
    relief = rng.uniform(0.5, 1.4)
    for wavelength, slope in ((130, 0.006), (230, 0.014), (410, 0.02), (900, 0.02)):
        wave = wavelength * rng.uniform(0.85, 1.2)
        height += relief * slope * wave / (2 * np.pi) * np.sin(2 * np.pi * s / wave + rng.uniform(0, 2 * np.pi))
    banks = [(smooth_noise(rng, 1, LENGTH, 1, LENGTH // 110)[0] * 2 - 0.75) * 8 * relief for _ in range(2)]
    samples = np.stack([x, y, np.cos(heading), np.sin(heading), curvature, height, *banks], axis=1)
    deltas = np.diff(samples, axis=0, append=samples[-1:])
    return Road(seed, samples, deltas, heading)
