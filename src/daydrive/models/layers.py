"""The building blocks that encoder, dynamics and decoder share. Shapes: B batch, C channels, H height, W width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WRITTEN_OUT = 128


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each place (Ba et al. 2016), for pictures (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        places = x.permute(0, 2, 3, 1)
        return F.layer_norm(places, places.shape[-1:], self.weight, self.bias).permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """Adaptive normalisation (Perez et al. 2018; zero start as in Peebles & Xie 2023): x · (1 + scale) + shift."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_dim, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.linear(condition)[:, :, None, None].to(x.dtype).chunk(2, dim=1)
        return torch.addcmul(x + shift, x, scale)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a norm, added to the input; modulated where a condition is given."""

    def __init__(self, channels: int, condition_dim: int | None = None) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = Modulation(channels, condition_dim) if condition_dim else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = self.norm(x)
        if self.modulation is not None and condition is not None:
            y = self.modulation(y, condition)
        return x + self.conv2(F.silu(self.conv1(F.silu(y))))


class SelfAttention(nn.Module):
    """Multi-head attention between all places of a picture (Vaswani et al. 2017), added to the input."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).view(b, 3, self.num_heads, c // self.num_heads, h * w).transpose(-1, -2)
        mixed = _attend(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + self.out(mixed.transpose(-1, -2).reshape(b, c, h, w))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention; written out for few places on a processor, where that is three times as fast."""
    if q.device.type == "cpu" and q.shape[-2] <= WRITTEN_OUT:
        return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Upsample(nn.Module):
    """`factor` times the size by pixel shuffle (Shi et al. 2016).

    It starts so that no checkerboard shows (Aitken et al. 2017).
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
