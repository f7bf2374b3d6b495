"""Metrics by kind of clip: steering, speed, light, source and drive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.sampling.clip_weights import STANDING, TOP, TURN
from daydrive.data.store.store import Store
from daydrive.evaluation.metrics.intervals import Array
from daydrive.evaluation.metrics.usable import mean_usable_steps
from daydrive.types import Clip, Rollout

DARK, BRIGHT = 80.0, 150.0
"""Thresholds of the mean level, 0 to 255, of the last real frame."""


class Kind(NamedTuple):
    """Properties of a clip. light: mean level of the last real frame, 0 to 255. steering: mean over the predicted
    steps, positive to the right. speed: in the store's unit, None if unknown."""

    source: str
    drive: str
    light: float
    steering: float
    speed: float | None


def kind_of(store: Store, rollout: Rollout, speed: float | None) -> Kind:
    predicted = rollout.actions[len(rollout.seen) - 1 :]
    light, steering = float(rollout.last.float().mean()), float(predicted[:, 0].mean())
    return Kind(_source(store, rollout.clip), rollout.clip.drive, light, steering, speed)


def _source(store: Store, clip: Clip) -> str:
    """The source of the store, or of the member of a concatenated store that the clip is from."""
    ends = np.cumsum([member.rows for member in store.members])
    return store.members[int(np.searchsorted(ends, clip.start, side="right"))].source


def speeds(store: Store, clips: Sequence[Clip], context: int) -> list[float | None]:
    """Mean of the column `speed` from the last context frame of each clip to its end; None if there is no speed."""
    if "speed" not in store.schema.names:
        return [None] * len(clips)
    rows = [clip.start + clip.frame_skip * np.arange(context - 1, clip.length) for clip in clips]
    values = store.read_values(np.concatenate(rows), ["speed"])["speed"].reshape(len(clips), -1)
    means = [float(v) for v in np.asarray(values, dtype=np.float64).mean(axis=1)]
    return [mean if np.isfinite(mean) else None for mean in means]


def slices(metrics: Mapping[str, Array], kinds: Sequence[Kind], hz: float) -> list[dict[str, Any]]:
    """Metrics for each kind of clip, with steering and speed classified as in `daydrive.data.sampling.clip_weights`.

    One entry per kind: `by`, `value`, `clips` (number), `psnr` (mean over all steps), `margin` over copying the last
    frame, both in dB, and `usable_seconds`.
    """
    turn = TURN * float(np.sqrt(np.mean([kind.steering**2 for kind in kinds])))
    known = [abs(kind.speed) for kind in kinds if kind.speed is not None]
    slowest = STANDING * float(np.percentile(known, TOP)) if known else 0.0
    names = {
        "steering": [_side(kind.steering, turn) for kind in kinds],
        "speed": [_pace(kind.speed, slowest) for kind in kinds],
        "light": [_light(kind.light) for kind in kinds],
        "source": [kind.source for kind in kinds],
        "drive": [kind.drive for kind in kinds],
    }
    return [
        {"by": by, "value": value, **_metrics(metrics, np.array(values) == value, hz)}
        for by, values in names.items()
        for value in dict.fromkeys(sorted(values))
    ]


def _metrics(metrics: Mapping[str, Array], chosen: npt.NDArray[np.bool_], hz: float) -> dict[str, Any]:
    of_kind = {name: values[chosen] for name, values in metrics.items()}
    psnr, copied = of_kind["psnr"], of_kind["copy_last_psnr"]
    return {
        "clips": int(chosen.sum()),
        "psnr": round(float(psnr.mean()), 4),
        "margin": round(float((psnr - copied).mean()), 4),
        "usable_seconds": round(mean_usable_steps(of_kind) / hz, 4),
    }


def _side(steering: float, turn: float) -> str:
    return "straight" if abs(steering) <= turn else "right" if steering > 0 else "left"


def _pace(speed: float | None, slowest: float) -> str:
    return "unknown" if speed is None else "standing" if abs(speed) < slowest else "moving"


def _light(level: float) -> str:
    return "dark" if level < DARK else "bright" if level > BRIGHT else "day"
