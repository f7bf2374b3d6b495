"""The features of FVD: the 400 logits of I3D (inflated Inception) trained on Kinetics-400.

Carreira and Zisserman, Quo vadis, action recognition? (2017); Unterthiner et al., Towards accurate generative models of
video (2018). Tensors are named as in the PyTorch port (`rgb_imagenet.pt`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIMENSIONS = 400
SIDE = 224
FRAMES = 16
"""Frames per sample, as in the paper."""

Sizes = tuple[int, int, int]

_MIXED = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Input channels and the channels of each convolution of a block, in the order of `InceptionBlock`."""

_POOLS: dict[str, tuple[Sizes, Sizes]] = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of the max pooling before a block."""


class I3D(nn.Module):
    """uint8 (N, T, 3, H, W) with T at least 9 → float32 (N, 400), the mean of the logits over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, channels in _MIXED.items():
            self.add_module(name, InceptionBlock(*channels))
        self.logits = Logits(1024, DIMENSIONS)

    def forward(self, clips: Tensor) -> Tensor:
        frames = F.interpolate(clips.flatten(0, 1).float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = (frames / 127.5 - 1.0).unflatten(0, clips.shape[:2]).transpose(1, 2)
        x = max_pool_same(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        for name in _MIXED:
            if name in _POOLS:
                x = max_pool_same(x, *_POOLS[name])
            x = self.get_submodule(name)(x)
        return self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1)).mean(dim=(2, 3, 4))


class Unit(nn.Module):
    """Convolution with TensorFlow's 'same' padding, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        k, s = self.conv3d.kernel_size, self.conv3d.stride
        return F.relu(self.bn(self.conv3d(pad_same(x, (k[0], k[1], k[2]), (s[0], s[1], s[2])))))


class InceptionBlock(nn.Module):
    """An Inception block: four parallel branches, concatenated."""

    def __init__(
        self, in_channels: int, branch0: int, branch1a: int, branch1b: int, branch2a: int, branch2b: int, branch3: int
    ) -> None:
        super().__init__()
        self.b0 = Unit(in_channels, branch0, 1)
        self.b1a, self.b1b = Unit(in_channels, branch1a, 1), Unit(branch1a, branch1b, 3)
        self.b2a, self.b2b = Unit(in_channels, branch2a, 1), Unit(branch2a, branch2b, 3)
        self.b3b = Unit(in_channels, branch3, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)), dim=1)


class Logits(nn.Module):
    """The classifier, a 1x1x1 convolution."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


def max_pool_same(x: Tensor, kernel: Sizes, stride: Sizes) -> Tensor:
    """Max pooling with 'same' padding. x follows a ReLU, so the zero padding does not change the maximum."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


def pad_same(x: Tensor, kernel: Sizes, stride: Sizes) -> Tensor:
    """Zero-pads (N, C, T, H, W) as TensorFlow's 'same' does, with the odd element at the end."""
    padding: list[int] = []
    for length, size, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        missing = max(0, (-(-length // step) - 1) * step + size - length)
        padding += [missing // 2, missing - missing // 2]
    return F.pad(x, padding)
