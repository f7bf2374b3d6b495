"""The parts of the training loss: pure functions over tensors. Pictures are (..., 3, H, W) in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def reconstruction_loss(reconstructed: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of what was painted from each frame's latent."""
    return (reconstructed - real).abs().mean()


def prediction_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the dream, which blurs less than a squared one (Mathieu et al. 2016)."""
    return (predicted - real).abs().mean()


def temporal_loss(predicted: Tensor, real: Tensor, last: Tensor) -> Tensor:
    """Mean absolute difference of the changes from frame to frame.

    predicted, real: (B, T, 3, H, W); last: (B, 3, H, W), the real frame before them.
    """
    before_predicted = torch.cat([last[:, None], predicted[:, :-1]], dim=1)
    before_real = torch.cat([last[:, None], real[:, :-1]], dim=1)
    return ((predicted - before_predicted) - (real - before_real)).abs().mean()


def latent_regularisation(latents: Tensor) -> Tensor:
    """Half the mean square, which keeps latents near the scale of a unit Gaussian."""
    return 0.5 * latents.float().square().mean()


def structure_loss(predicted: Tensor, real: Tensor, scales: int = 3) -> Tensor:
    """A perceptual distance without weights: where gradients differ, and by how much their strength does.

    The first part compares gradients with their sign at `scales` sizes, each half the one before, mean over the sizes;
    the second, half as heavy, their magnitudes at full size (Mathieu et al. 2016), which keeps a dream sharp where it
    can't know the exact place of a detail.
    """
    predicted, real = predicted.flatten(0, -4), real.flatten(0, -4)
    strength = _mean_gap(_gradients(predicted, torch.abs), _gradients(real, torch.abs))
    total = predicted.new_zeros(())
    used = 0
    while used < scales and min(predicted.shape[-2:]) >= 2:
        total = total + _mean_gap(_gradients(predicted), _gradients(real))
        used += 1
        predicted, real = F.avg_pool2d(predicted, 2), F.avg_pool2d(real, 2)
    return total / max(used, 1) + 0.5 * strength


def _gradients(x: Tensor, of: Callable[[Tensor], Tensor] = lambda x: x) -> tuple[Tensor, Tensor]:
    """Forward differences across and down."""
    return of(x[..., 1:] - x[..., :-1]), of(x[..., 1:, :] - x[..., :-1, :])


def _mean_gap(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    return (a[0] - b[0]).abs().mean() + (a[1] - b[1]).abs().mean()
