"""Components of the training loss, as pure functions of tensors that return one value per clip.

Images are (B, T, 3, H, W) in [-1, 1]; every function returns (B,), so that clips can be weighted and a non-finite one
can be found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of clips or images, (B, ...) in [-1, 1] → the distance of each pair, (B,); 0 for equal ones."""


def reconstruction_loss(reconstructed: Tensor, real: Tensor) -> Tensor:
    """Mean absolute error of the frames decoded from their own latents."""
    return _mean((reconstructed - real).abs())


def prediction_loss(predicted: Tensor, real: Tensor) -> Tensor:
    """Mean absolute error of the predicted frames, which blurs less than the squared error (Mathieu et al. 2016)."""
    return _mean((predicted - real).abs())


def temporal_loss(predicted: Tensor, real: Tensor, last: Tensor) -> Tensor:
    """Mean absolute error of the changes between frames. last: (B, 3, H, W), the real frame before the first."""
    before_predicted = torch.cat([last[:, None], predicted[:, :-1]], dim=1)
    before_real = torch.cat([last[:, None], real[:, :-1]], dim=1)
    return _mean(((predicted - before_predicted) - (real - before_real)).abs())


def latent_regularisation(latents: Tensor) -> Tensor:
    """Half the mean square of latents (B, ...), which keeps them close to the scale of a unit Gaussian."""
    return 0.5 * _mean(latents.float().square())


def coarse_loss(predicted: Tensor, real: Tensor, cell: int = 8) -> Tensor:
    """Mean absolute error of the means over cells of `cell` pixels: colours and layout, not detail."""
    return _mean((_pooled(predicted, cell) - _pooled(real, cell)).abs())


def detail_loss(predicted: Tensor, real: Tensor, cell: int = 8) -> Tensor:
    """The difference in the amount of detail, wherever exactly it is: mean magnitudes of horizontal and vertical
    gradients over cells of `cell` pixels, at three scales."""
    amounts = [_detail(images.flatten(0, -4).mean(1, keepdim=True), cell) for images in (predicted, real)]
    return _mean((amounts[0] - amounts[1]).abs().unflatten(0, (len(predicted), -1)))


def energy_score(distance: Distance, samples: Sequence[Tensor], real: Tensor) -> Tensor:
    """The energy score (Gneiting & Raftery 2007) of one or two samples, each like `real`: their mean distance from it,
    less half the distance between two. Its expectation is lowest for samples of the true distribution; it is the
    distance itself for one sample or two equal ones."""
    error = torch.stack([distance(sample, real) for sample in samples]).mean(dim=0)
    return error if len(samples) == 1 else error - 0.5 * distance(*samples)


def relativistic_loss(better: Sequence[Tensor], worse: Sequence[Tensor]) -> Tensor:
    """How much logits (N, K) of `better` fail to exceed those of `worse`, mean over the tensors (Jolicoeur-Martineau
    2019): softplus(worse - better), (N,)."""
    return torch.stack([_mean(F.softplus(w - b)) for b, w in zip(better, worse, strict=True)]).mean(dim=0)


def structure_loss(predicted: Tensor, real: Tensor, scales: int = 3) -> Tensor:
    """A perceptual distance without weights: the difference of image gradients and of their magnitudes.

    The first term compares signed gradients at `scales` resolutions, each half of the previous one, averaged. The
    second, weighted by a half, compares their magnitudes at full resolution (Mathieu et al. 2016), which keeps
    predictions sharp where the exact position of a detail is uncertain.
    """
    predicted, real = predicted.flatten(1, -3), real.flatten(1, -3)
    magnitude = _mean_difference(_gradients(predicted, torch.abs), _gradients(real, torch.abs))
    total = predicted.new_zeros(len(predicted))
    used = 0
    while used < scales and min(predicted.shape[-2:]) >= 2:
        total = total + _mean_difference(_gradients(predicted), _gradients(real))
        used += 1
        predicted, real = F.avg_pool2d(predicted, 2), F.avg_pool2d(real, 2)
    return total / max(used, 1) + 0.5 * magnitude


def _gradients(x: Tensor, of: Callable[[Tensor], Tensor] = lambda x: x) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical forward differences."""
    return of(x[..., 1:] - x[..., :-1]), of(x[..., 1:, :] - x[..., :-1, :])


def _pooled(images: Tensor, cell: int) -> Tensor:
    return F.avg_pool2d(images.flatten(0, -4), cell).unflatten(0, images.shape[:-3])


def _detail(grey: Tensor, cell: int) -> Tensor:
    """(N, 1, H, W) → (N, scales, 2, H/cell, W/cell)."""
    amounts = []
    for octave in range(3):
        x, y = _gradients(F.avg_pool2d(grey, 2**octave), torch.abs)
        gradients = torch.cat([F.pad(x, (0, 1)), F.pad(y, (0, 0, 0, 1))], dim=1)
        amounts.append(F.avg_pool2d(gradients, max(1, cell >> octave)))
    return torch.stack(amounts, dim=1)


def _mean_difference(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Tensor:
    return _mean((a[0] - b[0]).abs()) + _mean((a[1] - b[1]).abs())


def _mean(x: Tensor) -> Tensor:
    return x.flatten(1).mean(dim=1)
