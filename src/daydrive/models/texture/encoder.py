"""Encoder: images to a grid of latents and multi-scale features."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydrive.models.texture.config import TextureConfig
from daydrive.models.texture.layers import ChannelNorm, ResidualBlock, SelfAttention

HISTORY = 3
"""Number of consecutive frames per latent, enough for positions, velocities and accelerations."""


class Encoding(NamedTuple):
    """latent: (N, latent_dim, h, w); features: one feature map per stage, fine to coarse."""

    latent: Tensor
    features: tuple[Tensor, ...]


class Encoder(nn.Module):
    """Convolution stages with attention in the coarser half of them."""

    def __init__(self, config: TextureConfig, reductions: list[int]) -> None:
        """reductions: downsampling factor of each stage; the first is lossless (pixel unshuffle)."""
        super().__init__()
        stages = config.encoder.stages
        widths = [3 * HISTORY * reductions[0] ** 2, *stages]
        self.unshuffle = reductions[0]
        self.in_proj = nn.ModuleList(
            nn.Conv2d(widths[i], width, 3, stride=1 if i == 0 else reductions[i], padding=1)
            for i, width in enumerate(stages)
        )
        self.stages = nn.ModuleList()
        for i, width in enumerate(stages):
            layers: list[nn.Module] = [ResidualBlock(width)]
            if i >= (len(stages) + 1) // 2:
                layers.append(SelfAttention(width, config.encoder.num_heads))
            self.stages.append(nn.Sequential(*layers))
        self.out_proj = nn.Sequential(ChannelNorm(stages[-1]), nn.Conv2d(stages[-1], config.latent_dim, 1))

    def forward(self, window: Tensor) -> Encoding:
        """window: (N, HISTORY, 3, H, W) in [-1, 1], the newest last; earlier frames enter as differences to it."""
        newest = window[:, -1:]
        stacked = torch.cat([newest, newest - window[:, :-1]], dim=1).flatten(1, 2)
        x = F.pixel_unshuffle(stacked, self.unshuffle).contiguous(memory_format=torch.channels_last)
        features = []
        for in_proj, stage in zip(self.in_proj, self.stages, strict=True):
            x = stage(in_proj(x))
            features.append(x)
        return Encoding(self.out_proj(x), tuple(features))


class EncoderFeatures(nn.Module):
    """The feature maps of an encoder as a module of its own."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, window: Tensor) -> tuple[Tensor, ...]:
        encoding: Encoding = self.encoder(window)
        return encoding.features
