"""The features of FID: the Inception v3 network with which the Fréchet Inception distance was defined.

Szegedy et al., Rethinking the Inception architecture (2016); Heusel et al., GANs trained by a two time-scale update
rule (2017). The network is TensorFlow's of 2015-12-05, which differs from later ones: average pooling excludes the
padding, the last block uses max pooling instead of average pooling, and images are resized without half-pixel centers.
Tensors are named as in the PyTorch port (`pt_inception-2015-12-05-6726825d.pth`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIMENSIONS = 2048
SIDE = 299


class InceptionV3(nn.Module):
    """uint8 (N, 3, H, W) → float32 (N, 2048), the output of the last pooling layer."""

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
        """Not used; its 1008 classes distinguish this network's weights from those of other Inception networks."""

    def forward(self, images: Tensor) -> Tensor:
        x = (resize_tf1(images.float(), SIDE) - 128.0) / 128.0
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def horizontal_conv(in_channels: int, out_channels: int, kernel: int) -> Conv:
    """1 x kernel, preserves the image size."""
    return Conv(in_channels, out_channels, (1, kernel), padding=(0, kernel // 2))


def vertical_conv(in_channels: int, out_channels: int, kernel: int) -> Conv:
    """kernel x 1, preserves the image size."""
    return Conv(in_channels, out_channels, (kernel, 1), padding=(kernel // 2, 0))


class BlockA(nn.Module):
    def __init__(self, in_channels: int, pool_channels: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_channels, 64, 1)
        self.branch5x5_1 = Conv(in_channels, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(in_channels, pool_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat((self.branch1x1(x), five, double, self.branch_pool(avg_pool_3x3(x))), dim=1)


class BlockB(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, 2)), dim=1)


class BlockC(nn.Module):
    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_channels, 192, 1)
        self.branch7x7_1 = Conv(in_channels, hidden_channels, 1)
        self.branch7x7_2 = horizontal_conv(hidden_channels, hidden_channels, 7)
        self.branch7x7_3 = vertical_conv(hidden_channels, 192, 7)
        self.branch7x7dbl_1 = Conv(in_channels, hidden_channels, 1)
        self.branch7x7dbl_2 = vertical_conv(hidden_channels, hidden_channels, 7)
        self.branch7x7dbl_3 = horizontal_conv(hidden_channels, hidden_channels, 7)
        self.branch7x7dbl_4 = vertical_conv(hidden_channels, hidden_channels, 7)
        self.branch7x7dbl_5 = horizontal_conv(hidden_channels, 192, 7)
        self.branch_pool = Conv(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), seven, double, self.branch_pool(avg_pool_3x3(x))), dim=1)


class BlockD(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(in_channels, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(in_channels, 192, 1)
        self.branch7x7x3_2 = horizontal_conv(192, 192, 7)
        self.branch7x7x3_3 = vertical_conv(192, 192, 7)
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)), dim=1)


class BlockE(nn.Module):
    """maximum: use max pooling, as the network's last block does, instead of average pooling."""

    def __init__(self, in_channels: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = Conv(in_channels, 320, 1)
        self.branch3x3_1 = Conv(in_channels, 384, 1)
        self.branch3x3_2a = horizontal_conv(384, 384, 3)
        self.branch3x3_2b = vertical_conv(384, 384, 3)
        self.branch3x3dbl_1 = Conv(in_channels, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = horizontal_conv(384, 384, 3)
        self.branch3x3dbl_3b = vertical_conv(384, 384, 3)
        self.branch_pool = Conv(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, padding=1) if self.maximum else avg_pool_3x3(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, dim=1)


def avg_pool_3x3(x: Tensor) -> Tensor:
    """3x3 average pooling that excludes the padding."""
    return F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)


def resize_tf1(images: Tensor, side: int) -> Tensor:
    """Resizes (N, C, H, W) → (N, C, side, side) bilinearly as TensorFlow 1: output pixel i samples i H / side."""
    for dim in (-2, -1):
        length = images.shape[dim]
        position = torch.arange(side, dtype=torch.float32, device=images.device) * (length / side)
        first = position.floor().long().clamp(max=length - 1)
        weight = (position - first).view(-1, 1) if dim == -2 else position - first
        second = (first + 1).clamp(max=length - 1)
        a, b = images.index_select(dim, first), images.index_select(dim, second)
        images = a + (b - a) * weight
    return images
