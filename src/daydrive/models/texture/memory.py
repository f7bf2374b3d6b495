"""The texture memory: the last real image stays as it is, and what moves is a map into it.

Moving an image again and again blurs it, since every step resamples the step before; a smooth map survives that.
Shapes: images (B, 3, H, W) in [-1, 1]; maps and flows (B, 2, H, W) in pixels, x before y; layers (B, 1, H, W).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Texture(NamedTuple):
    """What the present image is made of.

    source: the image looked into; displacement: where each place of the present image lies in it, less the place
    itself; opacity: how much of the source still shows; overlay: what was painted since, times its own opacity.
    """

    source: Tensor
    displacement: Tensor
    opacity: Tensor
    overlay: Tensor


class Motion(NamedTuple):
    """What the decoder says of one step: flow back to the image before, mask [0, 1] of what is new, its content."""

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
    """Look up `image` (B, C, H, W) at each place plus `displacement` (B, 2, H, W) pixels; edges are repeated."""
    height, width = image.shape[-2:]
    size = displacement.new_tensor([width, height]).view(1, 2, 1, 1)
    where = (2 * (pixel_grid(height, width, image) + displacement) + 1) / size - 1
    if mode == "bilinear":  # its backward pass on a processor crashes at NaN, and takes NaN for the edge anyway
        where = where.nan_to_num()
    return F.grid_sample(image, where.permute(0, 2, 3, 1), mode=mode, padding_mode="border", align_corners=False)


def init(image: Tensor) -> Texture:
    """A memory that shows `image` and nothing else."""
    b, _, h, w = image.shape
    zeros = image.new_zeros(b, 2, h, w)
    return Texture(image, zeros, image.new_ones(b, 1, h, w), torch.zeros_like(image))


def warp(texture: Texture, motion: Motion) -> Texture:
    """One step: what is remembered moves by the flow, what is new is painted over it."""
    moved = sample(torch.cat([texture.displacement, texture.opacity, texture.overlay], dim=1), motion.flow)
    displacement, opacity, overlay = moved.split([2, 1, 3], dim=1)
    keep = 1 - motion.mask
    return Texture(
        texture.source, displacement + motion.flow, keep * opacity, keep * overlay + motion.mask * motion.content
    )


def render(texture: Texture) -> Tensor:
    """The image that the memory shows. Cubic, for the source is sampled once and its detail is worth keeping."""
    return texture.opacity * sample(texture.source, texture.displacement, "bicubic").clamp(-1, 1) + texture.overlay
