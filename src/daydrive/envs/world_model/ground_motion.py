"""How far the ground moves towards the camera between two frames, from the images alone.

Both frames are seen from above, on a plane below the horizon, where driving is a shift; their correlation as a function
of the shift shows the speed. A network that sees the images themselves recognizes the drive instead, and reads the
speed of another drive no better than a constant does.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

FOCAL, CAMERA_HEIGHT = 0.65, 1.35
"""Of the assumed camera: focal length in image widths (a field of view of 75°), and m above the ground. With another
camera all distances are in another unit."""

NEAR, STEP, ROWS = 2.2, 0.1, 87
"""The plane ahead of the camera, m: its beginning, distance of its rows, and their number."""

SIDE_STEP, COLUMNS = 0.25, 33
SHIFTS = (-6, 26)
"""The smallest and the largest shift per frame, in rows; positive: forwards."""

BANDS = 3
"""The correlations of this many parts of the plane in both directions are kept apart."""

FEATURES = BANDS * BANDS * (SHIFTS[1] - SHIFTS[0] + 1)
SMOOTHING = 11
"""Rows over which the brightness is normalized."""

NOISE = 0.01
"""Standard deviation of the brightness, in [-1, 1], below which there is no texture."""


def correlations(frames: Tensor, horizon: float) -> Tensor:
    """Two frames (B, 2, 3, H, W) in [-1, 1] → correlations (B, FEATURES) of the ground, about in [-1, 1].

    horizon: the row of the horizon, in image heights from the top.
    """
    batch, _, _, height, width = frames.shape
    grid, inside = _plane(height, width, horizon, frames.device)
    grey = frames.mean(2).flatten(0, 1)[:, None]
    plane = F.grid_sample(grey, grid.expand(grey.shape[0], -1, -1, -1), align_corners=False)
    detail = (plane - _smoothed(plane)) * inside
    texture = (detail / (_smoothed(detail.square()) + NOISE**2).sqrt()).view(batch, 2, ROWS, COLUMNS)
    least, most = SHIFTS
    before = F.pad(texture[:, 0], (0, 0, -least, most))
    products = [texture[:, 1] * before[:, k : k + ROWS] for k in range(most - least + 1)]
    parts = torch.stack(products, 1).unflatten(3, (BANDS, -1)).unflatten(2, (BANDS, -1))
    return parts.mean((3, 5)).flatten(1)


def _smoothed(plane: Tensor) -> Tensor:
    """The mean over `SMOOTHING` rows."""
    edge = SMOOTHING // 2
    return F.avg_pool2d(F.pad(plane, (0, 0, edge, edge), mode="replicate"), (SMOOTHING, 1), 1)


@lru_cache(maxsize=32)
def _plane(height: int, width: int, horizon: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """For `grid_sample`, where each point of the plane is in the image, (1, ROWS, COLUMNS, 2), and whether it is inside
    the image, float (ROWS, COLUMNS)."""
    distance = NEAR + STEP * torch.arange(ROWS, device=device)[:, None]
    side = SIDE_STEP * (torch.arange(COLUMNS, device=device) - COLUMNS // 2)[None]
    y = 2 * (horizon + FOCAL * CAMERA_HEIGHT * (width / height) / distance) - 1
    x = 2 * FOCAL * side / distance
    grid = torch.stack([x, y.expand_as(x)], dim=-1)
    return grid[None], (grid.abs() <= 1).all(-1).float()
