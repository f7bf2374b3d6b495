"""How an image moved, in three numbers: dense flow fitted by what turning, pitching and driving on would do.

To a moving camera flow is a sum of fields (Longuet-Higgins and Prazdny 1980). Turning shifts the whole image
sideways, pitching shifts it up or down, whatever is how far away. Driving on makes everything grow away from the
horizon, the nearer the faster; seen as a corridor, with ground below and walls at both sides, what lies twice as far
from the horizon is twice as near. Only this third field needs depth: an image that is shifted as a whole has none.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

Array = npt.NDArray[np.float64]
Greys = npt.NDArray[np.uint8]

HEIGHT = 64
"""Pictures are brought to this height before they are compared, so that all stores are read alike."""
MOTIONS = ("turn", "pitch", "approach")
"""`turn`: pixels that the image moves to the left; `pitch`: up; `approach`: away from the horizon, of what lies half
a height from it."""

_HORIZON = 0.46
"""Share of the height above it; the cameras of cars look about level."""
_LOWEST = 0.25
"""Share of the height below the horizon that is looked at: nearer ground moves too far to be followed."""
_ROUNDS, _REACH = 3, 0.5
"""Rounds of the fit, and pixels of error up to which a vector counts fully in the next one (Huber's weights)."""


def greys(frames: Tensor) -> Greys:
    """uint8 (..., 3, H, W) → grey images (..., 64, W'), averaged down to a height of `HEIGHT`."""
    *lead, _, height, width = frames.shape
    flat = frames.reshape(-1, 3, height, width).float()
    grey = (flat * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    if height != HEIGHT:
        size = (HEIGHT, max(16, round(width * HEIGHT / height)))
        grey = interpolate(grey, size, mode="bilinear", align_corners=False, antialias=True)
    levels: Greys = grey.round().clamp(0, 255).to(torch.uint8).reshape(*lead, *grey.shape[-2:]).numpy()
    return levels


def motions(images: Greys) -> Array:
    """Between neighbouring grey images, (..., T, H, W) → (..., T-1, 3) in the order of `MOTIONS`."""
    *lead, count = images.shape[:-2]
    flat = images.reshape(-1, count, *images.shape[-2:])
    found = [[_motion(clip[t], clip[t + 1]) for t in range(count - 1)] for clip in flat]
    return np.array(found, dtype=np.float64).reshape(*lead, count - 1, len(MOTIONS))


def _motion(before: Greys, after: Greys) -> Array:
    """Flow (Farnebäck 2003) fitted by least squares; each of a vector's directions counts by the contrast along it,
    since an edge does not show the motion along itself."""
    flow = cv2.calcOpticalFlowFarneback(
        before, after, np.zeros((*before.shape, 2), np.float32), pyr_scale=0.5, levels=3, winsize=13, iterations=3,
        poly_n=5, poly_sigma=1.1, flags=0,
    )  # fmt: skip
    fields, rows = _fields(*before.shape)
    down, across = np.gradient(cv2.GaussianBlur(before, (0, 0), 1.0).astype(np.float64))
    contrast = np.minimum(np.abs(np.stack((across, down), axis=-1)), 20.0) + 0.05
    vectors, weights = flow[:rows].reshape(-1).astype(np.float64), contrast[:rows].reshape(-1)
    trust = np.ones_like(weights)
    found = np.zeros(len(MOTIONS))
    for _ in range(_ROUNDS):
        weighted = fields * (weights * trust)[:, None]
        found = np.linalg.solve(weighted.T @ fields + 1e-6 * np.eye(len(MOTIONS)), weighted.T @ vectors)
        trust = 1.0 / np.maximum(np.abs(vectors - fields @ found) / _REACH, 1.0)
    return found


@lru_cache(maxsize=4)
def _fields(height: int, width: int) -> tuple[Array, int]:
    """Flow in pixels of one unit of each motion, (rows * W * 2, 3), and the number of rows that are looked at."""
    rows = min(height, round((_HORIZON + _LOWEST) * height))
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(rows) - _HORIZON * height)
    nearness = np.maximum(np.abs(x), np.maximum(y, 0.0)) / (height / 2) ** 2
    zero, one = np.zeros_like(x), np.ones_like(x)
    pairs = ((-one, zero), (zero, -one), (nearness * x, nearness * y))
    return np.stack([np.stack(pair, axis=-1).reshape(-1) for pair in pairs], axis=-1), rows
