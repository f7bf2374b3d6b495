"""Decoder: images from latents, and motion fields that warp the last image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydrive.models.interface import GradientCheckpointing
from daydrive.models.noise import step_noise
from daydrive.models.texture.config import TextureConfig
from daydrive.models.texture.layers import ChannelNorm, ResidualBlock, Upsample
from daydrive.models.texture.sizes import StageSizes
from daydrive.models.texture.texture_memory import Motion

FLOW_SCALE = 8.0
"""Flow in pixels for an output of 1, so that weights of usual size can represent the motion in a drive."""

NOISE_CHANNELS = 4
"""Random numbers per position of a stage."""

KNOWN_NOISE = 0.3
"""Amplitude of the noise where the source supplies all detail; 1 where it supplies none."""

MASK_BIAS = -3.0
"""At the start of training nearly all of the image is warped and little is generated."""


def noise_level(known: Tensor) -> Tensor:
    """Amplitude of the noise for `known_detail`: from 1 where it is 0 to `KNOWN_NOISE` where it is 1."""
    return KNOWN_NOISE + (1 - KNOWN_NOISE) * (1 - known)


class Extras(NamedTuple):
    """Optional inputs of the decoder. known: (B, 1, H, W), see `known_detail`; noise: per stage (B or 1,
    NOISE_CHANNELS, h, w), None for the most likely content."""

    known: Tensor | None = None
    noise: Sequence[Tensor] | None = None


NO_EXTRAS = Extras()


class Decoder(GradientCheckpointing):
    """A trunk from the latent grid up to at most half the image size, and two pixel-shuffle heads at full size.

    `reconstruct` uses only a latent. `motion` also uses features of the dynamics, the action and encoder features of
    the last image, and predicts flow, a mask of new content, and that content.
    """

    def __init__(self, config: TextureConfig, sizes: StageSizes) -> None:
        super().__init__()
        stages = config.decoder.stages
        factors = [math.prod(sizes.enlargements[:i]) for i in range(len(stages))]
        self.stage_sizes = [(factor * sizes.grid[0], factor * sizes.grid[1]) for factor in factors]
        self.latent_proj = nn.Conv2d(config.latent_dim, stages[0], 3, padding=1)
        self.hidden_proj = nn.Conv2d(config.hidden_dim, stages[0], 1)
        self.skips = nn.ModuleDict(
            {
                str(i): nn.Conv2d(config.encoder.stages[skip], stages[i], 1)
                for i, skip in enumerate(sizes.skips)
                if skip is not None
            }
        )
        self.detail_proj = nn.ModuleList(nn.Conv2d(1, width, 1) for width in stages if config.source_detail)
        self.noise_proj = nn.ModuleList(
            nn.Conv2d(NOISE_CHANNELS, width, 1, bias=False) for width in stages if config.noise
        )
        self.stages = nn.ModuleList(ResidualBlock(width, config.hidden_dim) for width in stages)
        self.upsample = nn.ModuleList(
            Upsample(stages[i], stages[i + 1], factor) if factor > 1 else nn.Conv2d(stages[i], stages[i + 1], 1)
            for i, factor in enumerate(sizes.enlargements)
        )
        self.norm = ChannelNorm(stages[-1])
        self.reconstruct_head = Upsample(stages[-1], 3, sizes.head)
        self.motion_head = Upsample(stages[-1], 6, sizes.head)
        with torch.no_grad():
            self.motion_head.conv.weight.mul_(0.1)

    def reconstruct(self, latent: Tensor) -> Tensor:
        """latent (N, latent_dim, h, w) → images (N, 3, H, W) in [-1, 1]."""
        x = self._trunk(self.latent_proj(latent), [None] * len(self.stages), None)
        return torch.tanh(self.checkpointed(self._full_size, self.reconstruct_head, x).float())

    def motion(
        self,
        latent: Tensor,
        hidden: Tensor,
        features: Sequence[Tensor | None],
        condition: Tensor,
        extras: Extras = NO_EXTRAS,
    ) -> Motion:
        """Motion from the last image, with encoder features `features`, to the image that `latent` predicts."""
        x = self._trunk(self.latent_proj(latent) + self.hidden_proj(hidden), features, condition, extras)
        flow, mask, content = self.checkpointed(self._full_size, self.motion_head, x).float().split([2, 1, 3], dim=1)
        return Motion(FLOW_SCALE * flow, torch.sigmoid(4 * mask + MASK_BIAS), torch.tanh(4 * content))

    def draw_noise(self, generator: torch.Generator | None, device: torch.device) -> list[Tensor] | None:
        """Random numbers for `Extras.noise`, see `step_noise`."""
        return step_noise([(1, NOISE_CHANNELS, *size) for size in self.stage_sizes], generator, device, self.training)

    def _trunk(
        self,
        x: Tensor,
        features: Sequence[Tensor | None],
        condition: Tensor | None,
        extras: Extras = NO_EXTRAS,
    ) -> Tensor:
        for i, stage in enumerate(self.stages):
            feature = features[i]
            if feature is not None:
                x = x + self.skips[str(i)](feature)
            x = self._with_extras(x, i, extras)
            x = stage(x, condition)
            if i < len(self.upsample):
                x = self.upsample[i](x)
        return x

    def _with_extras(self, x: Tensor, stage: int, extras: Extras) -> Tensor:
        if extras.known is None:
            return x
        known = F.avg_pool2d(extras.known, extras.known.shape[-1] // x.shape[-1]).to(x.dtype)
        if self.detail_proj:
            x = x + self.detail_proj[stage](known)
        if self.noise_proj and extras.noise is not None:
            x = x + self.noise_proj[stage](noise_level(known) * extras.noise[stage].to(x.dtype))
        return x

    def _full_size(self, head: nn.Module, x: Tensor) -> Tensor:
        """Output of the trunk → an image of full size."""
        result: Tensor = head(F.silu(self.norm(x)))
        return result
