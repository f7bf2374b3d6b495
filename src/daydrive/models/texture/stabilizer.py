"""Keeps the light and the amount of detail of a rollout near a slowly moving reference.

Deviations of a single step are invisible, but a rollout feeds its own images back, and within some hundred steps they
add up to darkness, false colours or noise. Everything is measured by image row, since sky and road differ.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from daydrive.models.texture.config import StabilizerConfig

ROW_RADIUS, DETAIL_RADIUS = 2, 3
"""Rows on either side that row statistics are averaged with."""


class Reference(NamedTuple):
    """Statistics of images. mean: (B, 3, H, 1), colour of each row; contrast: (B, 3, 1, 1), standard deviation; detail:
    (B, 1, H, 1), mean gradient magnitude of each row."""

    mean: Tensor
    contrast: Tensor
    detail: Tensor


def measure(images: Tensor) -> Reference:
    """The mean statistics of images (B, T, 3, H, W)."""
    count = images.shape[:2]
    flat = images.flatten(0, 1)
    parts = _smooth_rows(flat.mean(3, keepdim=True), ROW_RADIUS), flat.std((2, 3), keepdim=True), _row_detail(flat)
    return Reference(*(part.unflatten(0, count).mean(1) for part in parts))


def stabilize(image: Tensor, reference: Reference, config: StabilizerConfig) -> tuple[Tensor, Reference]:
    """The image (B, 3, H, W) with a part of its deviation removed and detail limited to the reference's, and the
    adapted reference. Gradients flow through the image; the corrections count as constants, and values
    beyond [-1, 1] are clamped without losing their gradient."""
    with torch.no_grad():
        mean = image.mean((2, 3), keepdim=True)
        rows = _smooth_rows(image.mean(3, keepdim=True), ROW_RADIUS)
        spread = image.std((2, 3), keepdim=True)
        ratio = (reference.contrast / spread.clamp(min=1e-3)).mean(1, keepdim=True)
        gain = 1 + config.pull * (ratio.clamp(0.5, 2.0) - 1)
        whole = reference.mean.mean(2, keepdim=True) - mean
        shift = config.row_pull * (reference.mean - rows) + (config.pull - config.row_pull) * whole
    adjusted = image + (gain - 1) * (image - mean) + shift
    blurred = F.avg_pool2d(F.pad(adjusted, (1, 1, 1, 1), mode="replicate"), 3, 1)
    with torch.no_grad():
        limit = (reference.detail / _row_detail(adjusted).clamp(min=1e-3)).clamp(max=1.0)
        adapted = Reference(
            torch.lerp(reference.mean, rows, config.adaptation),
            torch.lerp(reference.contrast, spread, config.adaptation),
            reference.detail,
        )
    stable = blurred + limit * (adjusted - blurred)
    return stable + (stable.clamp(-1.0, 1.0) - stable).detach(), adapted


def _smooth_rows(x: Tensor, radius: int) -> Tensor:
    """Average (B, C, H, 1) over neighbouring rows, twice."""
    for _ in range(2):
        x = F.avg_pool2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), (2 * radius + 1, 1), 1)
    return x


def _row_detail(images: Tensor) -> Tensor:
    """Mean gradient magnitude by row: (B, 3, H, W) → (B, 1, H, 1)."""
    padded = F.pad(images, (0, 1, 0, 1), mode="replicate")
    here = padded[..., :-1, :-1]
    squares = (padded[..., :-1, 1:] - here).square() + (padded[..., 1:, :-1] - here).square()
    return _smooth_rows((squares + 1e-8).sqrt().mean((1, 3), keepdim=True), DETAIL_RADIUS)
