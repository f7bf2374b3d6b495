"""Dynamics: recurrent layers on the latent grid, conditioned on the action."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydrive.models.interface import GradientCheckpointing
from daydrive.models.noise import step_noise
from daydrive.models.texture.config import TextureConfig
from daydrive.models.texture.layers import ChannelNorm, Modulation

MOTION_NOISE = 4
"""Random numbers per step with `noise`, the same for the whole image, so that its motion can differ."""

Hidden = tuple[Tensor, ...]
"""The recurrent state: one grid (B, hidden_dim, h, w) per layer."""


class DynamicsLayer(GradientCheckpointing):
    """A ConvGRU (Ballas et al. 2016) followed by a feed-forward block, both modulated by the action."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.modulation = Modulation(channels, channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.global_context = nn.Linear(channels, channels)
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.candidate = nn.Conv2d(2 * channels, channels, 1)
        self.feed_norm = ChannelNorm(channels)
        self.feed_modulation = Modulation(channels, channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.contract = nn.Conv2d(2 * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        y = self.checkpointed(self._mixed, x, condition)
        y = F.silu(y + self.global_context(y.mean(dim=(2, 3)))[:, :, None, None])
        update, reset = torch.sigmoid(self.gates(torch.cat([y, hidden], dim=1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([y, reset * hidden], dim=1)))
        hidden = torch.lerp(hidden, candidate, update)
        x = x + self.dropout(hidden)
        return x + self.dropout(self.checkpointed(self._fed, x, condition)), hidden

    def _mixed(self, x: Tensor, condition: Tensor) -> Tensor:
        mixed: Tensor = self.mix(self.modulation(self.norm(x), condition))
        return mixed

    def _fed(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.feed_modulation(self.feed_norm(x), condition)
        fed: Tensor = self.contract(F.silu(self.expand(y)))
        return fed


class DynamicsStep(NamedTuple):
    """latent: (B, latent_dim, h, w), predicted; features: (B, hidden_dim, h, w), input of the decoder's motion head;
    condition: (B, hidden_dim), embedding of the action and of the global motion; hidden: the new recurrent state."""

    latent: Tensor
    features: Tensor
    condition: Tensor
    hidden: Hidden


class Dynamics(nn.Module):
    """One time step: latent, action and recurrent state → next latent and state."""

    def __init__(self, config: TextureConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        width = config.hidden_dim
        self.hidden_shape = (width, *grid)
        inputs = config.action_dim + (1 if config.context_noise else 0)
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.noise_proj = nn.Linear(MOTION_NOISE, width, bias=False) if config.noise else None
        self.in_proj = nn.Conv2d(config.latent_dim, width, 1)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(width, *grid))
        self.layers = nn.ModuleList(
            DynamicsLayer(width, config.dynamics.dropout) for _ in range(config.dynamics.num_layers)
        )
        self.out_proj = nn.Sequential(ChannelNorm(width), nn.Conv2d(width, config.latent_dim, 1))
        self.global_context = nn.Linear(width, width)

    def init_hidden(self, batch_size: int, device: torch.device) -> Hidden:
        return tuple(torch.zeros(batch_size, *self.hidden_shape, device=device) for _ in self.layers)

    def draw_noise(self, generator: torch.Generator | None, level: Tensor) -> Tensor | None:
        """Random numbers (B, MOTION_NOISE) of amplitude `level` (B, 1), see `step_noise`; None for models without
        noise."""
        if self.noise_proj is None:
            return None
        drawn = step_noise([(1, MOTION_NOISE)], generator, level.device, self.training)
        return None if drawn is None else level * drawn[0]

    def forward(self, latent: Tensor, action: Tensor, hidden: Hidden, noise: Tensor | None = None) -> DynamicsStep:
        """latent (B, latent_dim, h, w), action (B, action_dim), with `context_noise` followed by the noise's level.
        noise: of `draw_noise`."""
        condition = self.embed(action)
        if self.noise_proj is not None and noise is not None:
            condition = condition + self.noise_proj(noise)
        x = self.in_proj(latent)
        x = x + self.pos_embed.to(x.dtype)
        updated = []
        for layer, old in zip(self.layers, hidden, strict=True):
            x, new = layer(x, old.to(x.dtype), condition)
            updated.append(new)
        whole = F.silu(condition + self.global_context(x.mean(dim=(2, 3))))
        return DynamicsStep(latent + self.out_proj(x), x, whole, tuple(updated))
