"""How long a prediction is worth more than a guess: one number to compare models with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval

GUESSES = ("copy_last_psnr", "constant_flow_psnr", "mean_image_psnr")
"""Baselines that need no model: each clip's prediction has to be above them."""
DISOBEYED = ("shuffled_actions_psnr", "zero_actions_psnr")
"""The same model with other actions: no baseline of a single clip, where they may happen to be the same, but of all."""
BASELINES = (*GUESSES, *DISOBEYED)


def usable_steps(predicted: npt.ArrayLike, baselines: npt.ArrayLike) -> Array:
    """Steps until the prediction falls to the best baseline.

    predicted: (..., steps); baselines: (baselines, ..., steps). Between the last step above and the first that is not
    the margin is taken to be straight; 0 where the first step is not above, all steps where it never falls.

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


def usable_of(metrics: Mapping[str, Array]) -> float:
    """Steps for which predictions are usable: the mean over clips of how long each is better than any guess, and no
    longer than the mean prediction is better than the same with other actions.

    metrics: (clips, steps) by name.
    """
    obeying = usable_steps(metrics["psnr"].mean(0), np.stack([metrics[name].mean(0) for name in DISOBEYED]))
    return float(min(steps_of_clips(metrics).mean(), obeying))


def steps_of_clips(metrics: Mapping[str, Array]) -> Array:
    """For how many steps each clip's prediction is better than any guess, (clips,)."""
    return usable_steps(metrics["psnr"], np.stack([metrics[name] for name in GUESSES]))


def drawn_steps(metrics: Mapping[str, Array], draws: Bootstrap) -> Array:
    """`usable_of` each draw, (draws,)."""
    obeying = usable_steps(draws.means(metrics["psnr"]), np.stack([draws.means(metrics[name]) for name in DISOBEYED]))
    return np.minimum(draws.means(steps_of_clips(metrics)), obeying)


def usable(metrics: Mapping[str, Array], draws: Bootstrap | None, hz: float) -> dict[str, Any]:
    """`usable_seconds`, its `usable_seconds_interval` and the share of clips that are better than any guess at every
    step; for evaluation.json."""
    better = metrics["psnr"] > np.max([metrics[name] for name in GUESSES], axis=0)
    result: dict[str, Any] = {
        "usable_seconds": round(usable_of(metrics) / hz, 4),
        "usable_seconds_interval": None,
        "usable_to_the_end": round(float(better.all(axis=1).mean()), 4),
    }
    if draws is not None:
        low, high = interval(drawn_steps(metrics, draws) / hz)
        result["usable_seconds_interval"] = [round(float(low), 4), round(float(high), 4)]
    return result
