"""What the driver's action makes of the latents: layers over the latent grid and over time."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydrive.config import ModelConfig
from daydrive.models.texture.layers import ChannelNorm, Modulation, Recomputing

Memory = tuple[Tensor, ...]
"""One picture (B, hidden_dim, h, w) per layer: all that is kept of the past, constant in size."""


class DynamicsLayer(Recomputing):
    """A gated recurrent memory over the grid (ConvGRU, Ballas et al. 2016), then a feed-forward part.

    Both are modulated by the action.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.modulation = Modulation(channels, channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.overview = nn.Linear(channels, channels)
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.candidate = nn.Conv2d(2 * channels, channels, 1)
        self.feed_norm = ChannelNorm(channels)
        self.feed_modulation = Modulation(channels, channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.contract = nn.Conv2d(2 * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        y = self.lean(self._mixed, x, condition)
        y = F.silu(y + self.overview(y.mean(dim=(2, 3)))[:, :, None, None])
        update, reset = torch.sigmoid(self.gates(torch.cat([y, memory], dim=1))).chunk(2, dim=1)
        candidate = torch.tanh(self.candidate(torch.cat([y, reset * memory], dim=1)))
        memory = torch.lerp(memory, candidate, update)
        x = x + self.dropout(memory)
        return x + self.dropout(self.lean(self._fed, x, condition)), memory

    def _mixed(self, x: Tensor, condition: Tensor) -> Tensor:
        mixed: Tensor = self.mix(self.modulation(self.norm(x), condition))
        return mixed

    def _fed(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.feed_modulation(self.feed_norm(x), condition)
        fed: Tensor = self.contract(F.silu(self.expand(y)))
        return fed


class DynamicsStep(NamedTuple):
    """latent: (B, latent_dim, h, w), foreseen; hidden: (B, hidden_dim, h, w), what the decoder needs of the motion;
    condition: (B, hidden_dim), the action and how the car moves as a whole; memory: the new one."""

    latent: Tensor
    hidden: Tensor
    condition: Tensor
    memory: Memory


class Dynamics(nn.Module):
    """One step in time: latent, action and memory → the next latent and the new memory."""

    def __init__(self, config: ModelConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        width = config.hidden_dim
        self.memory_shape = (width, *grid)
        self.embed = nn.Sequential(nn.Linear(config.action_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.enter = nn.Conv2d(config.latent_dim, width, 1)
        self.place = nn.Parameter(0.02 * torch.randn(width, *grid))
        self.layers = nn.ModuleList(
            DynamicsLayer(width, config.dynamics.dropout) for _ in range(config.dynamics.num_layers)
        )
        self.leave = nn.Sequential(ChannelNorm(width), nn.Conv2d(width, config.latent_dim, 1))
        self.overview = nn.Linear(width, width)

    def empty_memory(self, batch_size: int, device: torch.device) -> Memory:
        return tuple(torch.zeros(batch_size, *self.memory_shape, device=device) for _ in self.layers)

    def forward(self, latent: Tensor, action: Tensor, memory: Memory) -> DynamicsStep:
        """latent (B, latent_dim, h, w), action (B, action_dim)."""
        condition = self.embed(action)
        x = self.enter(latent)
        x = x + self.place.to(x.dtype)
        kept = []
        for layer, old in zip(self.layers, memory, strict=True):
            x, new = layer(x, old.to(x.dtype), condition)
            kept.append(new)
        whole = F.silu(condition + self.overview(x.mean(dim=(2, 3))))
        return DynamicsStep(latent + self.leave(x), x, whole, tuple(kept))
