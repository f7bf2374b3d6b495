"""How the picture moves from one frame to the next, as four numbers of the part that is far away.

A similarity without rotation, fitted to grey levels by Gauss-Newton from coarse to fine (Lucas and Kanade 1981; Baker
and Matthews 2004, forward additive), with weights that leave out what does not fit: other cars, the road nearby.
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
"""Side of the grey pictures that motion is seen in."""

FAR = 0.6
"""The upper share of a picture that counts: the rest is road nearby, whose motion is the speed's and not the turn's."""

_LEVELS = (4, 2, 1)
_STEPS = (4, 3, 2)
_STRANGE = 15.0
"""Grey levels of misfit from where a pixel counts little."""


class Shift(NamedTuple):
    """right: share of the width by which things move to the right; grows: by which distances in the picture grow;
    down: share of the height. fit: 1 - misfit after / before, how much of the change that motion explains."""

    right: float
    grows: float
    down: float
    fit: float


Pyramid = list[tuple[Grey, Grey, Grey]]


def pyramid(grey: Grey) -> Pyramid:
    """Smoothed pictures and their slopes, coarse to fine; of a grey picture of `SIDE`."""
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
    """The motion of the picture from `before` to `after`; all zero where there is nothing to see."""
    right = grows = down = 0.0
    first = last = 1e-9
    for (a, gx, gy), (b, _, _), steps in zip(before, after, _STEPS, strict=True):
        far, size = gx.shape
        columns, rows, across, along = _grid(size, far)
        slopes = (gx * size, (gx * across + gy * along) * size, gy * size)
        target = a[:far]
        for step in range(steps):
            at = columns + np.float32(size) * (np.float32(right) + np.float32(grows) * across)
            height = rows + np.float32(size) * (np.float32(down) + np.float32(grows) * along)
            seen = cv2.remap(b, at, height, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            misfit = target - seen
            weight = ((at >= 0) & (at <= size - 1)) / (1.0 + (misfit / _STRANGE) ** 2)
            if step == 0 and size == SIDE:
                still = target - b[:far]
                first = float((still * still).mean()) + 1e-9
            weighted = [slope * weight for slope in slopes]
            matrix = np.array([[float(np.vdot(w, s)) for s in slopes] for w in weighted])
            matrix[np.diag_indices(3)] += 0.1 * target.size
            change = np.linalg.solve(matrix, [float(np.vdot(w, misfit)) for w in weighted])
            right, grows, down = right + change[0], grows + change[1], down + change[2]
            last = float((misfit * misfit).mean())
        right, grows, down = (
            float(np.clip(right, -0.5, 0.5)),
            float(np.clip(grows, -0.5, 0.5)),
            float(np.clip(down, -0.5, 0.5)),
        )
    return Shift(right, grows, down, 1.0 - last / first)


@lru_cache(maxsize=4)
def _grid(size: int, far: int) -> tuple[Grey, Grey, Grey, Grey]:
    columns, rows = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(far, dtype=np.float32))
    middle, scale = np.float32((size - 1) / 2), np.float32(1 / size)
    return columns, rows, (columns - middle) * scale, (rows - middle) * scale
