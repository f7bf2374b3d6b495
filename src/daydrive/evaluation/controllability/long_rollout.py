"""Stability of very long rollouts: whether they collapse, freeze, repeat or drift in brightness."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from daydrive.data.sampling.clips import combine, fixed_clips, read_images
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.evaluation.controllability.flow import Array
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.metrics import change, sharpness
from daydrive.types import Clip

COLLAPSED = 0.35
"""Sharpness or contrast at the end, relative to the real drive, below which a rollout has collapsed."""
FROZEN = 0.05
"""Change from frame to frame at the end, relative to the real drive, below which a rollout is static."""
DRIFTED = 3.0
"""Deviation of the brightness from the real drive's mean, in its standard deviations (at least `MIN_DEVIATION`)."""
MIN_DEVIATION = 8.0
"""In levels, 0 to 255."""
REPEATS = 0.95
"""Correlation of the frames with those a period earlier above which a rollout repeats itself."""
LATER = 1.5
"""Time per late frame, relative to early frames, above which the cost is not flat."""

STEPS = (200, 1000)
CLIPS = 2
SNAPSHOT_STEPS = (1, 50, 200, 500, 1000)
"""Steps shown in the contact sheet."""
POINTS = 50
"""Maximum number of points of a curve."""

_CODE = (12, 16)
_MIN_PERIOD = 5


class _Measured(NamedTuple):
    """Of one rollout. snapshots: uint8 (3, H, W) by step of `SNAPSHOT_STEPS`, and the last real frame as step 0."""

    metrics: dict[str, float | None]
    curves: dict[str, Array]
    seconds: float
    drive: str
    snapshots: dict[int, Tensor]


class LongRollouts(NamedTuple):
    """results: see `measure_long_rollouts`. snapshots: uint8 (3, H, W) by drive and step, of the longest rollout of
    each drive: the frames at `SNAPSHOT_STEPS`, and the last real frame as step 0."""

    results: dict[str, Any]
    snapshots: dict[str, dict[int, Tensor]]


def measure_long_rollouts(
    rollout_fn: RolloutFunction,
    store: Store,
    split: str,
    context: int,
    steps: Sequence[int] = STEPS,
    *,
    frame_skip: int = 1,
    clips: int = CLIPS,
    dist: DistributedContext | None = None,
) -> LongRollouts:
    """Rolls out each number of steps from the start of `clips` drives, repeating the drives' actions as needed.

    A `RolloutFunction` returns whole rollouts, so one at a time is in memory as uint8: 12 kB per frame at 64x64, 200 kB
    at 256x256, for 1000 frames 12 and 200 MB. Restarting from the last predicted frames would be a different rollout.

    dist: the processes that share the rollouts.

    The results are `lengths`, for each number of steps: over the last tenth `brightness` (0 to 255), `contrast`,
    `sharpness` and `change` relative to the real drive, `repetition` (with its `period` in steps), `ms_per_frame` and
    `verdict`.
    `later_cost`: time per frame beyond the shortest length, relative to that within it. `curves` of the longest
    rollouts, in up to `POINTS` segments: `steps` (last step of each segment) and brightness, contrast, sharpness and
    change relative to the real drive. ValueError if a number of steps is below 1.
    """
    if min(steps) < 1:
        raise ValueError(f"steps must be at least 1, not {min(steps)}")
    dist = dist or DistributedContext.single(torch.device("cpu"))
    chosen = starting_clips(store, split, context, frame_skip, clips)
    tasks = [(count, clip) for count in sorted(steps, reverse=True) for clip in chosen]
    own = [_measure(rollout_fn, store, clip, context, count) for count, clip in dist.share(tasks)]
    by_steps: dict[int, list[_Measured]] = {count: [] for count in sorted(steps)}
    for (count, _), of_clip in zip(tasks, dist.gather(own), strict=True):
        by_steps[count].append(of_clip)
    lengths: list[dict[str, Any]] = []
    for count, measured in by_steps.items():
        names = measured[0].metrics
        seconds = sum(of_clip.seconds for of_clip in measured)
        lengths.append(
            {
                "steps": count,
                "clips": len(chosen),
                **{name: _mean([of_clip.metrics[name] for of_clip in measured]) for name in names},
                "ms_per_frame": round(1000 * seconds / (count * len(chosen)), 4),
                "verdict": _worst([_classify(of_clip.metrics) for of_clip in measured]),
            }
        )
    longest = by_steps[max(steps)]
    curves = [of_clip.curves for of_clip in longest]
    first, last = lengths[0], lengths[-1]
    late_frames = last["steps"] - first["steps"]
    late_cost = None
    if late_frames > 0:
        late_ms = last["ms_per_frame"] * last["steps"] - first["ms_per_frame"] * first["steps"]
        late_cost = round(late_ms / late_frames / max(first["ms_per_frame"], 1e-6), 4)
    results = {
        "lengths": lengths,
        "later_cost": late_cost,
        "cost_is_flat": None if late_cost is None else late_cost <= LATER,
        "curves": {
            "steps": curves[0].pop("steps").astype(int).tolist(),
            **{name: np.mean([c[name] for c in curves], axis=0).round(4).tolist() for name in curves[0]},
        },
        "thresholds": {
            "collapsed": COLLAPSED, "frozen": FROZEN, "drifted": DRIFTED, "repeats": REPEATS, "later": LATER,
        },
    }  # fmt: skip
    return LongRollouts(results, {of_clip.drive: of_clip.snapshots for of_clip in longest})


def _measure(rollout_fn: RolloutFunction, store: Store, clip: Clip, context: int, steps: int) -> _Measured:
    seen, real, actions = read_drive(store, clip, context, steps)
    started = time.perf_counter()
    frames = rollout_fn(seen[None], actions[None])[0]
    seconds = time.perf_counter() - started
    last = seen[-1]
    snapshots = {0: last, **{step: frames[step - 1].clone() for step in SNAPSHOT_STEPS if step <= len(frames)}}
    return _Measured(_metrics(frames, real, last), _curves(frames, real, last), seconds, clip.drive, snapshots)


def starting_clips(store: Store, split: str, context: int, frame_skip: int, count: int) -> list[Clip]:
    """Whole drives as clips, evenly spaced among those that are long enough. UserError if there are none."""
    min_frames = context * frame_skip + 1
    drives = [drive for drive in store.split(split) if drive.frames >= min_frames]
    if not drives:
        fixed_clips(store, split, context + 1, 1, frame_skip)  # raises the UserError
    indices = np.unique(np.linspace(0, len(drives) - 1, min(count, len(drives))).round().astype(int))
    return [
        Clip(drives[i].name, drives[i].start, (drives[i].frames - 1) // frame_skip + 1, frame_skip) for i in indices
    ]


def read_drive(store: Store, clip: Clip, context: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """The context (C, 3, H, W), up to 300 real frames of the drive (R, 3, H, W), and actions (C-1+N, 4), which restart
    after the context when the drive ends."""
    skip = clip.frame_skip
    rows = clip.start + skip * np.arange(min(clip.length, max(context, 300)))
    frames = torch.from_numpy(read_images(store, rows)[0]).movedim(-1, 1).contiguous()
    recorded = store.read_actions(clip.start + np.arange(skip * (clip.length - 1)))
    driven = combine(recorded[None], skip)[0]
    repeated = np.resize(np.arange(context - 1, len(driven)), steps)
    return frames[:context], frames, torch.from_numpy(np.concatenate((driven[: context - 1], driven[repeated])))


def _metrics(frames: Tensor, real: Tensor, last: Tensor) -> dict[str, float | None]:
    """Metrics of the last tenth of a rollout, relative to the real frames."""
    tail = frames[-max(2, len(frames) // 10) :]
    predicted = _appearance(tail, torch.cat((last[None], frames))[-len(tail) - 1 : -1])
    recorded = _appearance(real[1:], real[:-1])
    deviation = max(float(real.float().mean((1, 2, 3)).std()), MIN_DEVIATION)
    repetition, period = _repetition(frames)
    return {
        "brightness": predicted["brightness"],
        "real_brightness": recorded["brightness"],
        "drift": (predicted["brightness"] - recorded["brightness"]) / deviation,
        **{name: predicted[name] / max(recorded[name], 1e-6) for name in ("contrast", "sharpness", "change")},
        "repetition": repetition,
        "period": period,
        "real_repetition": _repetition(real)[0],
    }


def _curves(frames: Tensor, real: Tensor, last: Tensor) -> dict[str, Array]:
    """Appearance of the segments of a rollout relative to the real frames; `steps`: the last step of each segment."""
    edges = np.unique(np.linspace(0, len(frames), min(POINTS, len(frames)) + 1).round().astype(int))
    before = torch.cat((last[None], frames[:-1]))
    segments = [_appearance(frames[start:end], before[start:end]) for start, end in pairwise(edges)]
    ratios = {
        name: np.array([segment[name] for segment in segments]) / max(recorded, 1e-6)
        for name, recorded in _appearance(real[1:], real[:-1]).items()
    }
    return {"steps": edges[1:], **ratios}


def _appearance(frames: Tensor, before: Tensor) -> dict[str, float]:
    """Means over the frames, in levels 0 to 255. before: the preceding frame of each."""
    levels = frames.float()
    return {
        "brightness": float(levels.mean()),
        "contrast": float(levels.flatten(1).std(dim=1).mean()),
        "sharpness": float(sharpness(frames).mean()),
        "change": float(change(frames, before).mean()),
    }


def _repetition(frames: Tensor) -> tuple[float | None, float | None]:
    """The strongest correlation of downsampled, mean-free frames with those a period earlier, and the period in steps.

    Searched in the second half of the rollout, for periods from `_MIN_PERIOD` steps to half of its length. None if the
    frames are static or too few.
    """
    half = frames[len(frames) // 2 :]
    if len(half) < 4 * _MIN_PERIOD:
        return None, None
    codes: Array = adaptive_avg_pool2d(half.float(), _CODE).flatten(1).double().numpy()
    codes -= codes.mean(axis=0)
    power = np.square(codes).sum(axis=1)
    if power.mean() < 1.0:
        return None, None
    correlations = []
    for lag in range(1, len(codes) // 2 + 1):
        product = (codes[lag:] * codes[:-lag]).sum()
        correlations.append(product / np.sqrt(power[lag:].sum() * power[:-lag].sum() + 1e-12))
    # Consecutive frames of slow motion are similar, too; a period is a maximum after the correlation has dropped.
    curve = np.array(correlations)
    minimum = np.minimum.accumulate(curve)
    peaks = np.where((np.arange(1, len(curve) + 1) >= _MIN_PERIOD) & (minimum < curve - 0.1), curve, -1.0)
    best = int(peaks.argmax())
    return (float(peaks[best]), float(best + 1)) if peaks[best] > -1.0 else (0.0, None)


def _classify(metrics: dict[str, float | None]) -> str:
    values = {name: 0.0 if value is None else value for name, value in metrics.items()}
    if values["contrast"] < COLLAPSED or values["sharpness"] < COLLAPSED:
        return "collapses"
    if values["change"] < FROZEN:
        return "stands still"
    if values["repetition"] > REPEATS:
        return "repeats itself"
    if abs(values["drift"]) > DRIFTED:
        return "drifts in brightness"
    return "holds"


def _worst(verdicts: Sequence[str]) -> str:
    order = ("collapses", "stands still", "repeats itself", "drifts in brightness", "holds")
    return min(verdicts, key=order.index)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None
