"""Image metrics: similarity of two images and sharpness of one, as pure functions with one value per frame.

Every function takes (..., C, H, W) of any dtype and returns float32 (...) (float64 for float64 images). The value of
a frame depends on that frame alone; NaN in a frame gives NaN.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PSNR_CAP = 100.0
"""dB; replaces infinity for identical images, so that means and curves stay finite (a 256x256 image with one value
wrong by one level of 255 has 101 dB)."""

_STRUCTURE_SIDE = 32
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03

_BLOCK = 2**16
"""Number of values processed at a time."""


def psnr(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in dB, from the mean squared error over (C, H, W); at most `PSNR_CAP`.

    data_range: largest minus smallest possible value: 255 for uint8, 2 for [-1, 1], 1 for [0, 1]. Raises ValueError
    where it is not positive and finite.

    >>> black, grey = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.1)
    >>> psnr(grey, black, data_range=1.0)
    tensor([20., 20.])
    """
    a, b = _pair(a, b)
    peak = 20.0 * math.log10(_checked(data_range))
    mse = (a - b).square().flatten(-3).mean(-1)
    return (peak - 10.0 * torch.log10(mse)).clamp(max=PSNR_CAP)


def ssim(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """Structural similarity, at most 1 (Wang et al. 2004), averaged over channels and window positions.

    Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance, windows completely inside
    the image: equal to `skimage.metrics.structural_similarity(gaussian_weights=True, use_sample_covariance=False)`.
    (torchmetrics 1.9 computes the same map but also averages over a reflected border of 5 pixels.) A side shorter
    than 11 gets the longest odd window that fits, with renormalized weights.
    """
    a, b = _pair(a, b)
    _checked(data_range)
    values = [_ssim(x, y, data_range) for x, y in zip(_blocks(a), _blocks(b), strict=True)]
    return torch.cat(values).reshape(a.shape[:-3])


def _ssim(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """(N, C, H, W) → (N,)"""
    mean_a, mean_b, aa, bb, ab = _blur(_blur(torch.stack((a, b, a * a, b * b, a * b)), -2), -1)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * (ab - mean_a * mean_b) + c2) / ((aa - mean_a * mean_a) + (bb - mean_b * mean_b) + c2)
    return (luminance * structure).flatten(-3).mean(-1)


def sharpness(x: Tensor) -> Tensor:
    """Mean gradient magnitude by forward differences, per channel, in the image's units per pixel; at least 2x2 pixels.

    Its ratio to that of the real frame tells how much detail a prediction retains.
    """
    if min(x.shape[-2:]) < 2:
        raise ValueError(f"sharpness needs images of at least 2x2 pixels, not {tuple(x.shape[-2:])}")
    x = _floating(x)
    here = x[..., :-1, :-1]
    return torch.hypot(x[..., :-1, 1:] - here, x[..., 1:, :-1] - here).flatten(-3).mean(-1)


def change(x: Tensor, before: Tensor) -> Tensor:
    """Mean absolute difference from the previous image, in the images' units.

    Its ratio to that of the real frames tells whether a prediction flickers (above 1) or stands still (below 1).
    """
    x, before = _pair(x, before)
    return (x - before).abs().flatten(-3).mean(-1)


def structure(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of the medium-sized structure of two images, -1 to 1; 0 if one of them has none.

    Of the mean over the channels, reduced to `_STRUCTURE_SIDE` pixels in height and less its mean over 7x7 pixels.
    Independent of contrast and insensitive to fine detail: it tells whether things are at the same place. Unlike SSIM
    it is not raised by blurring what is uncertain.
    """
    a, b = (_structure_of(x) for x in _pair(a, b))
    size = (a.square().sum((-2, -1)) * b.square().sum((-2, -1))).sqrt()
    return torch.where(size > 1e-6, (a * b).sum((-2, -1)) / size.clamp(min=1e-6), torch.zeros_like(size))


def _structure_of(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    side = min(_STRUCTURE_SIDE, height)
    grey = x.mean(-3).reshape(-1, 1, height, width)
    small = F.adaptive_avg_pool2d(grey, (side, max(1, round(width * side / height))))
    local = F.avg_pool2d(F.pad(small, (3, 3, 3, 3), mode="replicate"), 7, 1)
    return (small - local).reshape(*x.shape[:-3], *small.shape[-2:])


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    """(..., C, H, W) → blocks (N, C, H, W), on a CPU small enough for its cache.

    A block of several frames never has a single one: PyTorch would split the sum of a single image over threads,
    which changes rounding.
    """
    frames = x.reshape(-1, *x.shape[-3:])
    size = max(2, _BLOCK // max(1, frames[:1].numel())) if x.device.type == "cpu" else len(frames)
    return frames.tensor_split(max(1, len(frames) // max(1, size)))


def _blur(x: Tensor, dim: int) -> Tensor:
    """Gaussian window along one dimension, without padding. Shifted sums instead of a convolution: as fast here, and
    neither autocast nor TF32 reduces the precision of differences of squares."""
    size = min(_WINDOW, x.shape[dim] - 1 + x.shape[dim] % 2)
    offsets = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    first, *others = (weights / weights.sum()).tolist()
    length = x.shape[dim] - size + 1
    total = x.narrow(dim, 0, length) * first
    for k, weight in enumerate(others, start=1):
        total.add_(x.narrow(dim, k, length), alpha=weight)
    return total


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.dim() < 3:
        raise ValueError(f"two images (..., C, H, W) of one shape are needed, not {tuple(a.shape)}, {tuple(b.shape)}")
    return _floating(a), _floating(b)


def _checked(data_range: float) -> float:
    if not 0 < data_range < math.inf:
        raise ValueError(f"data_range has to be positive and finite, not {data_range}")
    return data_range


def _floating(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
