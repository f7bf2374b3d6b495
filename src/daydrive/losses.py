"""The parts of the training loss: pure functions over tensors. Pictures are (..., 3, H, W) in [-1, 1]."""

from __future__ import annotations

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
    """A perceptual distance without weights: gradients that differ, at `scales` sizes, each half the one before.

    Gradient difference as in Mathieu et al. 2016, signed; summed over the scales and divided by their number.
    """
    difference = (predicted - real).flatten(0, -4)
    total = difference.new_zeros(())
    used = 0
    while used < scales and min(difference.shape[-2:]) >= 2:
        across = (difference[..., 1:] - difference[..., :-1]).abs().mean()
        down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
        total = total + across + down
        used += 1
        difference = F.avg_pool2d(difference, 2)
    return total / max(used, 1)
