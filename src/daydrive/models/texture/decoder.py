"""Decoder: images from latents, and motion fields that warp the last image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydrive.models.interface import GradientCheckpointing
from daydrive.models.texture.config import TextureConfig
from daydrive.models.texture.layers import ChannelNorm, ResidualBlock, Upsample
from daydrive.models.texture.sizes import StageSizes
from daydrive.models.texture.texture_memory import Motion

FLOW_SCALE = 8.0
"""Flow in pixels for an output of 1, so that weights of usual size can represent the motion in a drive."""

MASK_BIAS = -3.0
"""At the start of training nearly all of the image is warped and little is generated."""


class Decoder(GradientCheckpointing):
    """A trunk from the latent grid up to at most half the image size, and two pixel-shuffle heads at full size.

    `reconstruct` uses only a latent. `motion` also uses features of the dynamics, the action and encoder features of
    the last image, and predicts flow, a mask of new content, and that content.
    """

    def __init__(self, config: TextureConfig, sizes: StageSizes) -> None:
        super().__init__()
        stages = config.decoder.stages
        self.latent_proj = nn.Conv2d(config.latent_dim, stages[0], 3, padding=1)
        self.hidden_proj = nn.Conv2d(config.hidden_dim, stages[0], 1)
        self.skips = nn.ModuleDict(
            {
                str(i): nn.Conv2d(config.encoder.stages[skip], stages[i], 1)
                for i, skip in enumerate(sizes.skips)
                if skip is not None
            }
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

    def motion(self, latent: Tensor, hidden: Tensor, features: Sequence[Tensor | None], condition: Tensor) -> Motion:
        """Motion from the last image, with encoder features `features`, to the image that `latent` predicts."""
        x = self._trunk(self.latent_proj(latent) + self.hidden_proj(hidden), features, condition)
        flow, mask, content = self.checkpointed(self._full_size, self.motion_head, x).float().split([2, 1, 3], dim=1)
        return Motion(FLOW_SCALE * flow, torch.sigmoid(4 * mask + MASK_BIAS), torch.tanh(4 * content))

    def _trunk(self, x: Tensor, features: Sequence[Tensor | None], condition: Tensor | None) -> Tensor:
        for i, stage in enumerate(self.stages):
            feature = features[i]
            if feature is not None:
                x = x + self.skips[str(i)](feature)
            x = stage(x, condition)
            if i < len(self.upsample):
                x = self.upsample[i](x)
        return x

    def _full_size(self, head: nn.Module, x: Tensor) -> Tensor:
        """Output of the trunk → an image of full size."""
        result: Tensor = head(F.silu(self.norm(x)))
        return result
