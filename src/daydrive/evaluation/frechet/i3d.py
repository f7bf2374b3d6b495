"""The features of FVD: the inflated Inception of Kinetics-400, its 400 scores before the softmax.

Carreira and Zisserman, Quo vadis, action recognition? (2017); Unterthiner et al., Towards accurate generative models of
video (2018). Tensors are named as in the files that PyTorch users have of it (`rgb_imagenet.pt`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIMENSIONS = 400
SIDE = 224
FRAMES = 16
"""of a clip, as in the paper"""

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
"""Channels that come in, and of each convolution of a block, in the order of `Mixed`."""

_POOLS: dict[str, tuple[Sizes, Sizes]] = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of the pooling before a block."""


class I3D(nn.Module):
    """uint8 (N, T, 3, H, W), at least 9 frames → float32 (N, 400), the mean of the scores over time."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, channels in _MIXED.items():
            self.add_module(name, Mixed(*channels))
        self.logits = Scores(1024, DIMENSIONS)

    def forward(self, clips: Tensor) -> Tensor:
        frames = F.interpolate(clips.flatten(0, 1).float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = (frames / 127.5 - 1.0).unflatten(0, clips.shape[:2]).transpose(1, 2)
        x = pooled(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        for name in _MIXED:
            if name in _POOLS:
                x = pooled(x, *_POOLS[name])
            x = self.get_submodule(name)(x)
        return self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1)).mean(dim=(2, 3, 4))


class Unit(nn.Module):
    """Convolution with the border padded as TensorFlow's 'same', batch norm, rectifier."""

    def __init__(self, inside: int, out: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inside, out, side, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        side, stride = self.conv3d.kernel_size, self.conv3d.stride
        return F.relu(self.bn(self.conv3d(padded(x, (side[0], side[1], side[2]), (stride[0], stride[1], stride[2])))))


class Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, inside: int, one: int, narrow: int, three: int, thin: int, other: int, pool: int) -> None:
        super().__init__()
        self.b0 = Unit(inside, one, 1)
        self.b1a, self.b1b = Unit(inside, narrow, 1), Unit(narrow, three, 3)
        self.b2a, self.b2b = Unit(inside, thin, 1), Unit(thin, other, 3)
        self.b3b = Unit(inside, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        around = pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(around)), dim=1)


class Scores(nn.Module):
    def __init__(self, inside: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inside, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3d(x)


def pooled(x: Tensor, side: Sizes, stride: Sizes) -> Tensor:
    """The maximum; x is behind a rectifier, so that a border of zeros is never one."""
    return F.max_pool3d(padded(x, side, stride), side, stride)


def padded(x: Tensor, side: Sizes, stride: Sizes) -> Tensor:
    """Zeros around (N, C, T, H, W) as TensorFlow's 'same' has them, the odd one behind."""
    border: list[int] = []
    for length, kernel, step in zip(reversed(x.shape[2:]), reversed(side), reversed(stride), strict=True):
        missing = max(0, (-(-length // step) - 1) * step + kernel - length)
        border += [missing // 2, missing - missing // 2]
    return F.pad(x, border)
