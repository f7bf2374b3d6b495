"""Image motion between consecutive frames, estimated on the distant part of the scene.

A similarity transform without rotation is fitted to grey levels by Gauss-Newton, coarse to fine (Lucas and Kanade 1981;
Baker and Matthews 2004, forward additive), with robust weights that exclude outliers: other cars, the road nearby.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]
"""(H, W), levels 0 to 255."""

SIDE = 64
"""Side of the grey images used for motion estimation."""

FAR = 0.6
"""Upper fraction of the image that is used. The rest is nearby road, whose motion depends on the speed."""

_LEVELS = (4, 2, 1)
_STEPS = (4, 3, 2)
_ROBUST_SCALE = 15.0
"""Residual in grey levels above which a pixel has little weight."""


class Shift(NamedTuple):
    """Image motion: right and down as fractions of width and height, growth as relative increase of distances.
    fit: 1 - squared residual after / before, the fraction of the change explained by the motion."""

    right: float
    growth: float
    down: float
    fit: float


Pyramid = list[tuple[Grey, Grey, Grey]]


def pyramid(grey: Grey) -> Pyramid:
    """Smoothed images and their gradients in x and y, coarse to fine, of a grey image (SIDE, SIDE)."""
    levels: Pyramid = []
    for shrink in _LEVELS:
        size = SIDE // shrink
        shrunk = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA) if shrink > 1 else grey
        small = np.asarray(cv2.GaussianBlur(shrunk, (0, 0), 1.0), dtype=np.float32)
        far = round(size * FAR)
        x = np.asarray(cv2.Sobel(small, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)[:far], dtype=np.float32)
        y = np.asarray(cv2.Sobel(small, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)[:far], dtype=np.float32)
        levels.append((small, x, y))
    return levels


def shift(before: Pyramid, after: Pyramid) -> Shift:
    """Estimate the image motion from `before` to `after`; zero for images without texture."""
    right = growth = down = 0.0
    first = last = 1e-9
    for (a, gx, gy), (b, _, _), steps in zip(before, after, _STEPS, strict=True):
        far, size = gx.shape
        columns, rows, across, along = _grid(size, far)
        gradients = (gx * size, (gx * across + gy * along) * size, gy * size)
        target = a[:far]
        for step in range(steps):
            x = columns + np.float32(size) * (np.float32(right) + np.float32(growth) * across)
            y = rows + np.float32(size) * (np.float32(down) + np.float32(growth) * along)
            warped = cv2.remap(b, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            residual = target - warped
            weight = ((x >= 0) & (x <= size - 1)) / (1.0 + (residual / _ROBUST_SCALE) ** 2)
            if step == 0 and size == SIDE:
                difference = target - b[:far]
                first = float((difference * difference).mean()) + 1e-9
            weighted = [gradient * weight for gradient in gradients]
            matrix = np.array([[float(np.vdot(w, s)) for s in gradients] for w in weighted])
            matrix[np.diag_indices(3)] += 0.1 * target.size
            change = np.linalg.solve(matrix, [float(np.vdot(w, residual)) for w in weighted])
            right, growth, down = right + change[0], growth + change[1], down + change[2]
            last = float((residual * residual).mean())
        right, growth, down = (
            float(np.clip(right, -0.5, 0.5)),
            float(np.clip(growth, -0.5, 0.5)),
            float(np.clip(down, -0.5, 0.5)),
        )
    return Shift(right, growth, down, 1.0 - last / first)


@lru_cache(maxsize=4)
def _grid(size: int, far: int) -> tuple[Grey, Grey, Grey, Grey]:
    columns, rows = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(far, dtype=np.float32))
    middle, scale = np.float32((size - 1) / 2), np.float32(1 / size)
    return columns, rows, (columns - middle) * scale, (rows - middle) * scale
