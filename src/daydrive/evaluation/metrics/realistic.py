"""Realistic seconds: for how long a rollout looks like real frames and shows the right place; the mean image gets 0.

PSNR rewards the mean of all futures, and so do usable seconds. Here a step counts only if the frames have the detail
and the motion of the real ones, and their structure is where the actions lead: nearer to the true frame than a copy is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval
from daydrive.evaluation.metrics.spectrum import Peak, decibels
from daydrive.evaluation.metrics.usable import usable_steps

DETAIL = 6.0
"""dB by which the power in an octave and direction may differ from that of the real frames: contrast halved or
doubled."""
MOTION = 2.0
"""Factor by which the change from frame to frame may differ from that of the real frames."""
STILL = 0.5
"""Change in levels, 0 to 255, that is added to both, so that a standing car may stand."""
SECONDS = 0.5
"""Duration around each step over which the measures are averaged."""

ARRAYS = (
    "predicted_power", "real_power", "predicted_change", "real_change", "structure", "copy_last_structure",
    "shuffled_actions_structure", "zero_actions_structure",
)  # fmt: skip
"""The metrics from which realistic seconds are computed."""
OTHER_ACTIONS = ("shuffled_actions_structure", "zero_actions_structure")


def realistic_steps_per_clip(metrics: Mapping[str, Array], hz: float) -> Array:
    """Number of steps before the first one that is not realistic, (clips,). metrics: by name, (clips, steps, ...)."""
    window = max(1, round(SECONDS * hz))
    mean = {name: _centred_mean(metrics[name], window) for name in ARRAYS if name not in OTHER_ACTIONS}
    detail = np.abs(decibels(mean["predicted_power"], mean["real_power"])) <= DETAIL
    motion = (mean["predicted_change"] + STILL) / (mean["real_change"] + STILL)
    right_place = mean["structure"] > mean["copy_last_structure"]
    realistic = detail.all(axis=(2, 3)) & (motion >= 1 / MOTION) & (motion <= MOTION) & right_place
    return np.where(realistic.all(axis=1), realistic.shape[1], (~realistic).argmax(axis=1)).astype(np.float64)


def realistic(
    metrics: Mapping[str, Array],
    bands: Sequence[tuple[int, int]],
    peaks: Sequence[Sequence[Peak]],
    draws: Bootstrap | None,
    hz: float,
) -> dict[str, Any]:
    """For `evaluation.json`: `realistic_seconds` and its `realistic_seconds_interval`.

    The mean over clips, limited to the time at which the mean structure is better than with other actions, and to the
    steps before the first band with a peak. bands, peaks: see `SpectrumAccumulator`.
    """
    before_peaks = min((start for (start, _), found in zip(bands, peaks, strict=True) if found), default=bands[-1][1])
    steps = realistic_steps_per_clip(metrics, hz)
    controlled = usable_steps(metrics["structure"].mean(0), np.stack([metrics[name].mean(0) for name in OTHER_ACTIONS]))
    result: dict[str, Any] = {
        "realistic_seconds": round(float(min(steps.mean(), controlled, before_peaks)) / hz, 4),
        "realistic_seconds_interval": None,
    }
    if draws is not None:
        others = np.stack([draws.means(metrics[name]) for name in OTHER_ACTIONS])
        drawn = np.minimum(draws.means(steps), usable_steps(draws.means(metrics["structure"]), others))
        low, high = interval(np.minimum(drawn, before_peaks) / hz)
        result["realistic_seconds_interval"] = [round(float(low), 4), round(float(high), 4)]
    return result


def _centred_mean(values: Array, window: int) -> Array:
    """(clips, steps, ...) → the mean over up to `window` steps around each."""
    sums = np.concatenate((np.zeros_like(values[:, :1]), values.cumsum(axis=1)), axis=1)
    steps = np.arange(values.shape[1])
    start, end = np.maximum(steps - window // 2, 0), np.minimum(steps + window // 2 + 1, len(steps))
    count = (end - start).reshape(-1, *[1] * (values.ndim - 2))
    return np.asarray((sums[:, end] - sums[:, start]) / count)
