"""Fits dense optical flow with three motions of the camera: turn, pitch and approach.

The flow of a moving camera is a sum of fields (Longuet-Higgins and Prazdny 1980). A turn shifts the whole image
sideways and pitch shifts it vertically, independently of depth. Forward motion expands the image away from the horizon,
faster for near objects; in a corridor model, with ground below and walls on both sides, depth is inversely proportional
to the distance from the horizon. Only this third field depends on depth: an image shifted as a whole has none of it.
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
GreyImages = npt.NDArray[np.uint8]

HEIGHT = 64
"""Images are resized to this height, so that the estimates do not depend on a store's resolution."""
MOTIONS = ("turn", "pitch", "approach")
"""In pixels: `turn`, shift of the image to the left; `pitch`, shift upwards; `approach`, expansion at
half an image height from the horizon."""

_HORIZON = 0.46
"""Position of the horizon as a share of the image height from the top; cameras of cars are about level."""
_LOWEST = 0.25
"""Share of the height below the horizon that is used: nearer ground moves too far to be tracked."""
_ITERATIONS, _HUBER_DELTA = 3, 0.5
"""Iterations of the robust fit, and residual in pixels up to which a vector has full weight (Huber)."""


def to_grey(frames: Tensor) -> GreyImages:
    """Converts uint8 (..., 3, H, W) → grey images uint8 (..., `HEIGHT`, W'), resized with antialiasing."""
    *lead, _, height, width = frames.shape
    flat = frames.reshape(-1, 3, height, width).float()
    grey = (flat * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    if height != HEIGHT:
        size = (HEIGHT, max(16, round(width * HEIGHT / height)))
        grey = interpolate(grey, size, mode="bilinear", align_corners=False, antialias=True)
    levels: GreyImages = grey.round().clamp(0, 255).to(torch.uint8).reshape(*lead, *grey.shape[-2:]).numpy()
    return levels


def motions(images: GreyImages) -> Array:
    """Motions between consecutive grey images, (..., T, H, W) → (..., T-1, 3) in the order of `MOTIONS`."""
    *lead, count = images.shape[:-2]
    flat = images.reshape(-1, count, *images.shape[-2:])
    fits = [[_motion(clip[t], clip[t + 1]) for t in range(count - 1)] for clip in flat]
    return np.array(fits, dtype=np.float64).reshape(*lead, count - 1, len(MOTIONS))


def _motion(before: GreyImages, after: GreyImages) -> Array:
    """Fits the flow (Farnebäck 2003) by robust least squares. Each component of a flow vector is weighted by the
    contrast in its direction, because motion along an edge is not visible."""
    flow = cv2.calcOpticalFlowFarneback(
        before, after, np.zeros((*before.shape, 2), np.float32), pyr_scale=0.5, levels=3, winsize=13, iterations=3,
        poly_n=5, poly_sigma=1.1, flags=0,
    )  # fmt: skip
    fields, rows = _fields(*before.shape)
    vertical, horizontal = np.gradient(cv2.GaussianBlur(before, (0, 0), 1.0).astype(np.float64))
    contrast = np.minimum(np.abs(np.stack((horizontal, vertical), axis=-1)), 20.0) + 0.05
    vectors, weights = flow[:rows].reshape(-1).astype(np.float64), contrast[:rows].reshape(-1)
    trust = np.ones_like(weights)
    motion = np.zeros(len(MOTIONS))
    for _ in range(_ITERATIONS):
        weighted = fields * (weights * trust)[:, None]
        motion = np.linalg.solve(weighted.T @ fields + 1e-6 * np.eye(len(MOTIONS)), weighted.T @ vectors)
        trust = 1.0 / np.maximum(np.abs(vectors - fields @ motion) / _HUBER_DELTA, 1.0)
    return motion


@lru_cache(maxsize=4)
def _fields(height: int, width: int) -> tuple[Array, int]:
    """The flow in pixels of one unit of each motion, (rows * W * 2, 3), and the number of image rows used."""
    rows = min(height, round((_HORIZON + _LOWEST) * height))
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(rows) - _HORIZON * height)
    nearness = np.maximum(np.abs(x), np.maximum(y, 0.0)) / (height / 2) ** 2
    zero, one = np.zeros_like(x), np.ones_like(x)
    pairs = ((-one, zero), (zero, -one), (nearness * x, nearness * y))
    return np.stack([np.stack(pair, axis=-1).reshape(-1) for pair in pairs], axis=-1), rows
