"""Usable seconds: for how long a prediction is better than every baseline, one number to compare models with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval

MODEL_FREE_BASELINES = ("copy_last_psnr", "constant_flow_psnr", "mean_image_psnr")
"""Baselines without a model, compared with the prediction clip by clip."""
ACTION_BASELINES = ("shuffled_actions_psnr", "zero_actions_psnr")
"""The same model with other actions. Compared over all clips, since the actions of single clips may happen to agree."""
BASELINES = (*MODEL_FREE_BASELINES, *ACTION_BASELINES)


def usable_steps(predicted: npt.ArrayLike, baselines: npt.ArrayLike) -> Array:
    """Number of steps until the prediction is no longer above the best baseline, (...).

    predicted: (..., steps); baselines: (baselines, ..., steps). The crossing between two steps is interpolated
    linearly. 0 if the first step is not above the baselines, `steps` if all are.

    >>> usable_steps([30.0, 24.0, 20.0, 25.0], baselines=[[21.0] * 4, [22.0, 22.0, 22.0, 20.0]]).tolist()
    2.5
    """
    margin = np.asarray(predicted, dtype=np.float64) - np.max(baselines, axis=0)
    steps = margin.shape[-1]
    below = margin <= 0
    first = np.where(below.any(axis=-1), below.argmax(axis=-1), steps)
    at = np.take_along_axis(margin, np.minimum(first, steps - 1)[..., None], axis=-1)[..., 0]
    before = np.take_along_axis(margin, np.clip(first - 1, 0, steps - 1)[..., None], axis=-1)[..., 0]
    between = np.where((first > 0) & (first < steps), before / np.where(before > at, before - at, 1.0), 0.0)
    return np.asarray(np.where(first == 0, 0.0, first + between))


def mean_usable_steps(metrics: Mapping[str, Array]) -> float:
    """Usable steps: the mean over clips of the number of steps above the model-free baselines, limited to the number
    of steps at which the mean prediction is better than with other actions.

    metrics: (clips, steps) by name.
    """
    controlled = usable_steps(metrics["psnr"].mean(0), np.stack([metrics[name].mean(0) for name in ACTION_BASELINES]))
    return float(min(usable_steps_per_clip(metrics).mean(), controlled))


def usable_steps_per_clip(metrics: Mapping[str, Array]) -> Array:
    """Number of steps at which each clip's prediction is above the model-free baselines, (clips,)."""
    return usable_steps(metrics["psnr"], np.stack([metrics[name] for name in MODEL_FREE_BASELINES]))


def bootstrap_usable_steps(metrics: Mapping[str, Array], draws: Bootstrap) -> Array:
    """`mean_usable_steps` of each bootstrap draw, (draws,)."""
    controlled = usable_steps(
        draws.means(metrics["psnr"]), np.stack([draws.means(metrics[name]) for name in ACTION_BASELINES])
    )
    return np.minimum(draws.means(usable_steps_per_clip(metrics)), controlled)


def usable(metrics: Mapping[str, Array], draws: Bootstrap | None, hz: float) -> dict[str, Any]:
    """For `evaluation.json`: `usable_seconds`, its `usable_seconds_interval`, and `usable_to_the_end`, the share of
    clips that are above the model-free baselines at every step."""
    better = metrics["psnr"] > np.max([metrics[name] for name in MODEL_FREE_BASELINES], axis=0)
    result: dict[str, Any] = {
        "usable_seconds": round(mean_usable_steps(metrics) / hz, 4),
        "usable_seconds_interval": None,
        "usable_to_the_end": round(float(better.all(axis=1).mean()), 4),
    }
    if draws is not None:
        low, high = interval(bootstrap_usable_steps(metrics, draws) / hz)
        result["usable_seconds_interval"] = [round(float(low), 4), round(float(high), 4)]
    return result
