"""Building blocks shared by encoder, dynamics and decoder. Shapes: B batch, C channels, H height, W width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daydrive.models.interface import GradientCheckpointing

EXPLICIT_ATTENTION = 1024
"""Up to this many positions attention is computed explicitly on a CPU, which takes half the time."""

CHEAP_CHANNELS = 64
"""Up to this many channels gradient checkpointing also recomputes convolutions, which are cheap per byte saved."""


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels at each position (Ba et al. 2016), for feature maps (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.permute(0, 2, 3, 1)
        return F.layer_norm(channels_last, x.shape[1:2], self.weight, self.bias).permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """Adaptive normalisation (Perez et al. 2018; zero init as in Peebles & Xie 2023): x * (1 + scale) + shift."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_dim, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition)[:, :, None, None].to(x.dtype).chunk(2, dim=1)
        return torch.addcmul(x + shift, x, scale)


class ResidualBlock(GradientCheckpointing):
    """Residual block of a norm and two 3x3 convolutions, modulated by a condition if one is given."""

    def __init__(self, channels: int, condition_dim: int | None = None) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = Modulation(channels, condition_dim) if condition_dim else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.conv1.out_channels <= CHEAP_CHANNELS:
            return x + self.checkpointed(self._both, x, condition)
        return x + self.checkpointed(self._second, self.checkpointed(self._first, x, condition))

    def _both(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self._second(self._first(x, condition))

    def _first(self, x: Tensor, condition: Tensor | None) -> Tensor:
        y = self.norm(x)
        if self.modulation is not None and condition is not None:
            y = self.modulation(y, condition)
        first: Tensor = self.conv1(F.silu(y))
        return first

    def _second(self, x: Tensor) -> Tensor:
        second: Tensor = self.conv2(F.silu(x))
        return second


class SelfAttention(GradientCheckpointing):
    """Residual multi-head attention between all positions of a feature map (Vaswani et al. 2017)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.checkpointed(self._mixed, x)

    def _mixed(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).view(b, 3, self.num_heads, c // self.num_heads, h * w).transpose(-1, -2)
        mixed = _attend(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        out: Tensor = self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, see `EXPLICIT_ATTENTION`."""
    if q.device.type == "cpu" and q.shape[-2] <= EXPLICIT_ATTENTION:
        return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Upsample(nn.Module):
    """Upsampling by `factor` with pixel shuffle (Shi et al. 2016).

    Initialised so that there are no checkerboard artifacts (Aitken et al. 2017).
    """

    def __init__(self, channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(channels, out_channels * factor**2, 1)
        with torch.no_grad():
            self.conv.weight.copy_(self.conv.weight[:: factor**2].repeat_interleave(factor**2, dim=0))
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), self.factor)
