"""The parts of the training loss: pure functions over tensors, one value for each clip.

Pictures are (B, T, 3, H, W) in [-1, 1]; every function gives (B,), so that clips can weigh differently and the one at
fault can be named.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def reconstruction_loss(reconstructed: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of what was painted from each frame's latent."""
    return _mean((reconstructed - real).abs())


def prediction_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the dream, which blurs less than a squared one (Mathieu et al. 2016)."""
    return _mean((predicted - real).abs())


def temporal_loss(predicted: Tensor, real: Tensor, last: Tensor) -> Tensor:
    """Mean absolute difference of the changes from frame to frame; last: (B, 3, H, W), the real frame before them."""
    before_predicted = torch.cat([last[:, None], predicted[:, :-1]], dim=1)
    before_real = torch.cat([last[:, None], real[:, :-1]], dim=1)
    return _mean(((predicted - before_predicted) - (real - before_real)).abs())


def latent_regularisation(latents: Tensor) -> Tensor:
    """Half the mean square of latents (B, ...), which keeps them near the scale of a unit Gaussian."""
    return 0.5 * _mean(latents.float().square())


def structure_loss(predicted: Tensor, real: Tensor, scales: int = 3) -> Tensor:
    """A perceptual distance without weights: where gradients differ, and by how much their strength does.

    The first part compares gradients with their sign at `scales` sizes, each half the one before, mean over the sizes;
    the second, half as heavy, their magnitudes at full size (Mathieu et al. 2016), which keeps a dream sharp where it
    can't know the exact place of a detail.
    """
    predicted, real = predicted.flatten(1, -3), real.flatten(1, -3)
    strength = _mean_gap(_gradients(predicted, torch.abs), _gradients(real, torch.abs))
    total = predicted.new_zeros(len(predicted))
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
    return _mean((a[0] - b[0]).abs()) + _mean((a[1] - b[1]).abs())


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(dim=1)
