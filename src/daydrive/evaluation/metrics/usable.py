"""How long a dream is worth more than a guess: one number to compare models with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval

GUESSES = ("copy_last_psnr", "constant_flow_psnr", "mean_picture_psnr")
"""Floors that need no model: each clip's dream has to be above them."""
DISOBEYED = ("shuffled_actions_psnr", "zero_actions_psnr")
"""The same model with other actions: no floor of a single clip, where they may happen to be the same, but of all."""
FLOORS = (*GUESSES, *DISOBEYED)


def usable_steps(dream: npt.ArrayLike, floors: npt.ArrayLike) -> Array:
    """Steps until the dream falls to the best floor.

    dream: (..., steps); floors: (floors, ..., steps). Between the last step above and the first that is not the margin
    is taken to be straight; 0 where the first step is not above, all steps where it never falls.

    >>> usable_steps([30.0, 24.0, 20.0, 25.0], floors=[[21.0] * 4, [22.0, 22.0, 22.0, 20.0]]).tolist()
    2.5
    """
    margin = np.asarray(dream, dtype=np.float64) - np.max(floors, axis=0)
    steps = margin.shape[-1]
    below = margin <= 0
    first = np.where(below.any(axis=-1), below.argmax(axis=-1), steps)
    at = np.take_along_axis(margin, np.minimum(first, steps - 1)[..., None], axis=-1)[..., 0]
    before = np.take_along_axis(margin, np.clip(first - 1, 0, steps - 1)[..., None], axis=-1)[..., 0]
    between = np.where((first > 0) & (first < steps), before / np.where(before > at, before - at, 1.0), 0.0)
    return np.asarray(np.where(first == 0, 0.0, first + between))


def usable_of(figures: Mapping[str, Array]) -> float:
    """Steps that the dreams of some clips are usable: the mean over clips of how long each is better than any guess,
    and no longer than the mean dream is better than the same with other actions.

    figures: (clips, steps) by name.
    """
    obeying = usable_steps(figures["psnr"].mean(0), np.stack([figures[name].mean(0) for name in DISOBEYED]))
    return float(min(steps_of_clips(figures).mean(), obeying))


def steps_of_clips(figures: Mapping[str, Array]) -> Array:
    """For how many steps each clip's dream is better than any guess, (clips,)."""
    return usable_steps(figures["psnr"], np.stack([figures[name] for name in GUESSES]))


def drawn_steps(figures: Mapping[str, Array], draws: Bootstrap) -> Array:
    """`usable_of` each draw, (draws,)."""
    obeying = usable_steps(draws.means(figures["psnr"]), np.stack([draws.means(figures[name]) for name in DISOBEYED]))
    return np.minimum(draws.means(steps_of_clips(figures)), obeying)


def usable(figures: Mapping[str, Array], draws: Bootstrap | None, hz: float) -> dict[str, Any]:
    """`usable_seconds`, its `usable_seconds_interval` and the share of clips whose dream is better than any guess at
    every step; for evaluation.json."""
    better = figures["psnr"] > np.max([figures[name] for name in GUESSES], axis=0)
    result: dict[str, Any] = {
        "usable_seconds": round(usable_of(figures) / hz, 4),
        "usable_seconds_interval": None,
        "usable_to_the_end": round(float(better.all(axis=1).mean()), 4),
    }
    if draws is not None:
        low, high = interval(drawn_steps(figures, draws) / hz)
        result["usable_seconds_interval"] = [round(float(low), 4), round(float(high), 4)]
    return result
