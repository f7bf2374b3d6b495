"""The features of FID: Inception v3 as the Fréchet Inception distance was defined with.

Szegedy et al., Rethinking the Inception architecture (2016); Heusel et al., GANs trained by a two time-scale update
rule (2017). The network is TensorFlow's of 2015-12-05, which differs from later ones: means over a window leave the
border out, its last block takes a maximum where others take a mean, and images are enlarged from their upper left
corner.
Tensors are named as in the files that PyTorch users have of it (`pt_inception-2015-12-05-6726825d.pth`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIMENSIONS = 2048
SIDE = 299


class InceptionV3(nn.Module):
    """uint8 (N, 3, H, W) → float32 (N, 2048), the last pooling layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = BlockA(192, 32)
        self.Mixed_5c = BlockA(256, 64)
        self.Mixed_5d = BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, 128)
        self.Mixed_6c = BlockC(768, 160)
        self.Mixed_6d = BlockC(768, 160)
        self.Mixed_6e = BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, maximum=False)
        self.Mixed_7c = BlockE(2048, maximum=True)
        self.fc = nn.Linear(DIMENSIONS, 1008)
        """Not used; its 1008 classes tell the file from those of other Inceptions."""

    def forward(self, images: Tensor) -> Tensor:
        x = (enlarged(images.float(), SIDE) - 128.0) / 128.0
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


class Conv(nn.Module):
    """Convolution, batch norm, rectifier."""

    def __init__(
        self, inside: int, out: int, kernel: int | tuple[int, int], stride: int = 1, padding: int | tuple[int, int] = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def wide(inside: int, out: int, side: int) -> Conv:
    """1 x side, the image's size kept."""
    return Conv(inside, out, (1, side), padding=(0, side // 2))


def high(inside: int, out: int, side: int) -> Conv:
    """side x 1, the image's size kept."""
    return Conv(inside, out, (side, 1), padding=(side // 2, 0))


class BlockA(nn.Module):
    def __init__(self, inside: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inside, 64, 1)
        self.branch5x5_1 = Conv(inside, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(inside, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(inside, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat((self.branch1x1(x), five, double, self.branch_pool(mean_around(x))), dim=1)


class BlockB(nn.Module):
    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(inside, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, 2)), dim=1)


class BlockC(nn.Module):
    def __init__(self, inside: int, narrow: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inside, 192, 1)
        self.branch7x7_1 = Conv(inside, narrow, 1)
        self.branch7x7_2 = wide(narrow, narrow, 7)
        self.branch7x7_3 = high(narrow, 192, 7)
        self.branch7x7dbl_1 = Conv(inside, narrow, 1)
        self.branch7x7dbl_2 = high(narrow, narrow, 7)
        self.branch7x7dbl_3 = wide(narrow, narrow, 7)
        self.branch7x7dbl_4 = high(narrow, narrow, 7)
        self.branch7x7dbl_5 = wide(narrow, 192, 7)
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), seven, double, self.branch_pool(mean_around(x))), dim=1)


class BlockD(nn.Module):
    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(inside, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(inside, 192, 1)
        self.branch7x7x3_2 = wide(192, 192, 7)
        self.branch7x7x3_3 = high(192, 192, 7)
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)), dim=1)


class BlockE(nn.Module):
    """maximum: the pooled branch takes the maximum around a place, as the network's last block does, not the mean."""

    def __init__(self, inside: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = Conv(inside, 320, 1)
        self.branch3x3_1 = Conv(inside, 384, 1)
        self.branch3x3_2a = wide(384, 384, 3)
        self.branch3x3_2b = high(384, 384, 3)
        self.branch3x3dbl_1 = Conv(inside, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = wide(384, 384, 3)
        self.branch3x3dbl_3b = high(384, 384, 3)
        self.branch_pool = Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, padding=1) if self.maximum else mean_around(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, dim=1)


def mean_around(x: Tensor) -> Tensor:
    """Over 3x3 places, at the border over those that are there."""
    return F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)


def enlarged(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) → (N, C, side, side), bilinear as TensorFlow 1 does it: pixel i of the result lies at i H / side."""
    for dim in (-2, -1):
        length = images.shape[dim]
        place = torch.arange(side, dtype=torch.float32, device=images.device) * (length / side)
        first = place.floor().long().clamp(max=length - 1)
        share = (place - first).view(-1, 1) if dim == -2 else place - first
        second = (first + 1).clamp(max=length - 1)
        a, b = images.index_select(dim, first), images.index_select(dim, second)
        images = a + (b - a) * share
    return images
