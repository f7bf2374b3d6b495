"""The texture memory: the last real picture stays as it is, and what moves is a map into it.

Moving a picture again and again blurs it, since every step resamples the step before; a smooth map survives that.
Shapes: pictures (B, 3, H, W) in [-1, 1]; maps and flows (B, 2, H, W) in pixels, x before y; layers (B, 1, H, W).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Texture(NamedTuple):
    """What the present picture is made of.

    source: the picture looked into; displacement: where each place of the present picture lies in it, less the place
    itself; opacity: how much of the source still shows; paint: what was painted since, times its own opacity.
    """

    source: Tensor
    displacement: Tensor
    opacity: Tensor
    paint: Tensor


class Motion(NamedTuple):
    """What the decoder says of one step: flow back to the picture before, mask [0, 1] of what is new, its content."""

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


def sample(picture: Tensor, displacement: Tensor, mode: str = "bilinear") -> Tensor:
    """Look up `picture` (B, C, H, W) at each place plus `displacement` (B, 2, H, W) pixels; edges are repeated."""
    height, width = picture.shape[-2:]
    size = displacement.new_tensor([width, height]).view(1, 2, 1, 1)
    where = (2 * (pixel_grid(height, width, picture) + displacement) + 1) / size - 1
    if mode == "bilinear":  # its backward pass on a processor crashes at NaN, and takes NaN for the edge anyway
        where = where.nan_to_num()
    return F.grid_sample(picture, where.permute(0, 2, 3, 1), mode=mode, padding_mode="border", align_corners=False)


def fresh(picture: Tensor) -> Texture:
    """A memory that shows `picture` and nothing else."""
    b, _, h, w = picture.shape
    zeros = picture.new_zeros(b, 2, h, w)
    return Texture(picture, zeros, picture.new_ones(b, 1, h, w), torch.zeros_like(picture))


def move(texture: Texture, motion: Motion) -> Texture:
    """One step: what is remembered moves by the flow, what is new is painted over it."""
    moved = sample(torch.cat([texture.displacement, texture.opacity, texture.paint], dim=1), motion.flow)
    displacement, opacity, paint = moved.split([2, 1, 3], dim=1)
    keep = 1 - motion.mask
    return Texture(
        texture.source, displacement + motion.flow, keep * opacity, keep * paint + motion.mask * motion.content
    )


def render(texture: Texture) -> Tensor:
    """The picture that the memory shows. Cubic, for the source is sampled once and its detail is worth keeping."""
    return texture.opacity * sample(texture.source, texture.displacement, "bicubic").clamp(-1, 1) + texture.paint
