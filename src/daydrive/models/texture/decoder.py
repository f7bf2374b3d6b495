"""Latents → pictures: paints what a latent holds, and says how the last picture moves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydrive.config import ModelConfig
from daydrive.models.texture.layers import ChannelNorm, Recomputing, ResidualBlock, Upsample
from daydrive.models.texture.memory import Motion
from daydrive.models.texture.sizes import Ladder

FLOW_SCALE = 8.0
"""Pixels of flow for an output of one, so that weights of a usual size reach the motions of a drive."""

MASK_BIAS = -3.0
"""Where training starts, nearly all of the picture moves and little is painted."""


class Decoder(Recomputing):
    """One trunk from the latent grid up to half the picture's size or less; two heads shuffle pixels to the full.

    `paint` takes a latent alone. `motion` also takes the hidden grid of the dynamics, the action, and the features of
    the last picture: how it moves, where it is new, and what is seen there.
    """

    def __init__(self, config: ModelConfig, sizes: Ladder) -> None:
        super().__init__()
        stages = config.decoder.stages
        self.enter_latent = nn.Conv2d(config.latent_dim, stages[0], 3, padding=1)
        self.enter_hidden = nn.Conv2d(config.hidden_dim, stages[0], 1)
        self.skips = nn.ModuleDict(
            {
                str(i): nn.Conv2d(config.encoder.stages[skip], stages[i], 1)
                for i, skip in enumerate(sizes.skips)
                if skip is not None
            }
        )
        self.stages = nn.ModuleList(ResidualBlock(width, config.hidden_dim) for width in stages)
        self.grow = nn.ModuleList(
            Upsample(stages[i], stages[i + 1], factor) if factor > 1 else nn.Conv2d(stages[i], stages[i + 1], 1)
            for i, factor in enumerate(sizes.enlargements)
        )
        self.norm = ChannelNorm(stages[-1])
        self.paint_head = Upsample(stages[-1], 3, sizes.head)
        self.motion_head = Upsample(stages[-1], 6, sizes.head)
        with torch.no_grad():
            self.motion_head.conv.weight.mul_(0.1)

    def paint(self, latent: Tensor) -> Tensor:
        """latent (N, latent_dim, h, w) → pictures (N, 3, H, W) in [-1, 1]."""
        x = self._trunk(self.enter_latent(latent), [None] * len(self.stages), None)
        return torch.tanh(self.lean(self._full_size, self.paint_head, x).float())

    def motion(self, latent: Tensor, hidden: Tensor, features: Sequence[Tensor | None], condition: Tensor) -> Motion:
        """What moves between the last picture, whose `features` these are, and the one that `latent` foresees."""
        x = self._trunk(self.enter_latent(latent) + self.enter_hidden(hidden), features, condition)
        flow, mask, content = self.lean(self._full_size, self.motion_head, x).float().split([2, 1, 3], dim=1)
        return Motion(FLOW_SCALE * flow, torch.sigmoid(4 * mask + MASK_BIAS), torch.tanh(4 * content))

    def _trunk(self, x: Tensor, features: Sequence[Tensor | None], condition: Tensor | None) -> Tensor:
        for i, stage in enumerate(self.stages):
            feature = features[i]
            if feature is not None:
                x = x + self.skips[str(i)](feature)
            x = stage(x, condition)
            if i < len(self.grow):
                x = self.grow[i](x)
        return x

    def _full_size(self, head: nn.Module, x: Tensor) -> Tensor:
        """The trunk's end → a picture of the full size."""
        result: Tensor = head(F.silu(self.norm(x)))
        return result
