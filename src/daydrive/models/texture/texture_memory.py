"""The texture memory: the last real image is stored unchanged, and a displacement map into it is warped instead.

Warping an image repeatedly blurs it, since every step resamples the previous one; a smooth map survives resampling.
Shapes: images (B, 3, H, W) in [-1, 1]; displacements and flows (B, 2, H, W) in pixels, x before y; opacities and masks
(B, 1, H, W).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Texture(NamedTuple):
    """Components of the current image.

    source: the last real image; displacement: from each pixel to its position in the source; opacity: how much of the
    source still shows; overlay: content generated since, premultiplied by its opacity.
    """

    source: Tensor
    displacement: Tensor
    opacity: Tensor
    overlay: Tensor


class Motion(NamedTuple):
    """The decoder's prediction for one step: backward flow, mask [0, 1] of new content, and that content."""

    flow: Tensor
    mask: Tensor
    content: Tensor


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """(1, 2, H, W): x and y of each pixel's centre, in pixels."""
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=torch.float32),
        torch.arange(width, device=like.device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y])[None]


def sample(image: Tensor, displacement: Tensor, mode: str = "bilinear") -> Tensor:
    """Sample `image` (B, C, H, W) at each pixel plus `displacement` (B, 2, H, W) pixels, with border padding."""
    height, width = image.shape[-2:]
    size = displacement.new_tensor([width, height]).view(1, 2, 1, 1)
    where = (2 * (pixel_grid(height, width, image) + displacement) + 1) / size - 1
    if mode == "bilinear":  # its backward pass on a CPU crashes at NaN
        where = where.nan_to_num()
    return F.grid_sample(image, where.permute(0, 2, 3, 1), mode=mode, padding_mode="border", align_corners=False)


def init(image: Tensor) -> Texture:
    """A memory that renders exactly `image`."""
    b, _, h, w = image.shape
    zeros = image.new_zeros(b, 2, h, w)
    return Texture(image, zeros, image.new_ones(b, 1, h, w), torch.zeros_like(image))


def warp(texture: Texture, motion: Motion) -> Texture:
    """One step: warp the memory by the flow and composite the new content over it."""
    moved = sample(torch.cat([texture.displacement, texture.opacity, texture.overlay], dim=1), motion.flow)
    displacement, opacity, overlay = moved.split([2, 1, 3], dim=1)
    keep = 1 - motion.mask
    return Texture(
        texture.source, displacement + motion.flow, keep * opacity, keep * overlay + motion.mask * motion.content
    )


def add(texture: Texture, change: Tensor) -> Texture:
    """A memory that renders the image plus `change`, which goes into the overlay."""
    return texture._replace(overlay=texture.overlay + change)


def known_detail(texture: Texture) -> Tensor:
    """How much of each pixel's detail the source supplies, (B, 1, H, W) in [0, 1]: the opacity, less where the map
    magnifies the source, so that a pixel shows less than one of the source's (determinant of its Jacobian)."""
    d = F.pad(texture.displacement, (0, 1, 0, 1), mode="replicate")
    along_x = d[..., :-1, 1:] - d[..., :-1, :-1]
    along_y = d[..., 1:, :-1] - d[..., :-1, :-1]
    area = (1 + along_x[:, 0]) * (1 + along_y[:, 1]) - along_x[:, 1] * along_y[:, 0]
    return texture.opacity * area[:, None].abs().clamp(max=1.0)


def render(texture: Texture) -> Tensor:
    """Render the image (B, 3, H, W). Bicubic sampling preserves detail of the source, which is sampled only once."""
    return texture.opacity * sample(texture.source, texture.displacement, "bicubic").clamp(-1, 1) + texture.overlay
