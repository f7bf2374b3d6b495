"""Scores of an ensemble of K sampled futures against the one that happened, in grey levels of 255.

Spread and error: Fortin, Abaza, Anctil, Turcotte: Why Should Ensemble Spread Match the RMSE of the Ensemble Mean?
(2014). Continuous ranked probability score (CRPS), fair for few samples: Ferro (2014); Zamo and Naveau (2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, step_entries
from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval
from daydrive.metrics import change, psnr

BLOCKS = 8
"""Blocks in the height of an image, whose spread and error are correlated; about square."""


def ensemble_metrics(samples: Tensor, deterministic: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Metrics of one clip by name, (N,) each.

    samples: uint8 (K, N, 3, H, W) with K of at least 2. deterministic: the rollout without randomness, and the real
    frames, uint8 (N, 3, H, W). `variance`: of the samples, times (K + 1) / K, which a calibrated ensemble has in common
    with `squared_error`, that of the mean image.
    """
    count = len(samples)
    variance, mean = moments(samples)
    of_each = torch.stack([psnr(frames, real, UINT8_RANGE) for frames in samples])
    apart = torch.stack([change(one, other) for one, other in combinations(samples, 2)])
    errors = torch.stack([change(frames, real) for frames in samples])
    wrong = (deterministic.double() - real.double()).square()
    return {
        "deterministic_psnr": psnr(deterministic, real, UINT8_RANGE),
        "mean_image_psnr": psnr(mean, real.double(), UINT8_RANGE),
        "single_psnr": of_each.mean(0),
        "best_psnr": of_each.amax(0),
        "variance": variance.flatten(1).mean(1) * (count + 1) / count,
        "squared_error": (mean - real).square().flatten(1).mean(1),
        "crps": errors.mean(0) - apart.mean(0) / 2,
        "deterministic_error": change(deterministic, real),
        "correlation": block_correlation(variance.mean(1), wrong.mean(1)),
    }


def moments(samples: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 (K, N, ...) → unbiased variance and mean of the K values, float64 (N, ...).

    One step at a time is converted, which bounds the memory.
    """
    found = [torch.var_mean(frames.double(), dim=0) for frames in samples.unbind(1)]
    variance, mean = (torch.stack(values) for values in zip(*found, strict=True))
    return variance, mean


def block_correlation(variance: Tensor, squared_error: Tensor) -> Tensor:
    """Correlation over the blocks of an image between the standard deviation and the root mean square error, (N,).

    variance, squared_error: (N, H, W). 0 where one of them is the same everywhere.
    """
    height, width = variance.shape[-2:]
    rows = min(BLOCKS, height)
    size = (rows, max(1, min(width, round(rows * width / height))))
    spread, error = (adaptive_avg_pool2d(x, size).sqrt().flatten(1) for x in (variance, squared_error))
    spread, error = (x - x.mean(1, keepdim=True) for x in (spread, error))
    scale = (spread.square().sum(1) * error.square().sum(1)).sqrt()
    return torch.where(scale > 1e-9, (spread * error).sum(1) / scale.clamp(min=1e-9), torch.zeros_like(scale))


def ensemble_steps(metrics: Mapping[str, Array], draws: Bootstrap | None) -> list[dict[str, Any]]:
    """One entry per step with the mean of each metric over the clips and its `NAME_interval` over drives.

    metrics: (clips, N) by name, see `ensemble_metrics`. Variance and squared error become `spread` and `error`, the
    roots of their means, and `spread_error_ratio`.
    """
    mean = _with_roots({name: values.mean(0) for name, values in metrics.items()})
    if draws is None:
        return step_entries(mean, {})
    drawn = _with_roots({name: draws.means(values) for name, values in metrics.items()})
    return step_entries(mean, {name: interval(values) for name, values in drawn.items()})


def _with_roots(means: dict[str, Array]) -> dict[str, Array]:
    spread, error = np.sqrt(means.pop("variance")), np.sqrt(means.pop("squared_error"))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {**means, "spread": spread, "error": error, "spread_error_ratio": spread / error}
