"""Very long rollouts: do they stay images of a road, or fade, freeze and go round in circles?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from daydrive.data.sampling.clips import combine, fixed_clips, read_images
from daydrive.data.store.store import Store
from daydrive.evaluation.controllability.flow import Array
from daydrive.evaluation.metrics.frame_metrics import Dream
from daydrive.metrics import change, sharpness
from daydrive.types import Clip

COLLAPSED = 0.35
"""Detail or contrast at the end, of that of the real drive, below which a rollout has collapsed."""
FROZEN = 0.05
"""Change from frame to frame at the end, of the real one's, below which it stands still."""
DRIFTED = 3.0
"""Brightness away from the real drive's mean, in its own standard deviations (of at least `LEAST_DEVIATION` levels)."""
LEAST_DEVIATION = 8.0
REPEATS = 0.95
"""Correlation of the frames with those some steps before, above which a rollout goes round in circles."""
LATER = 1.5
"""Cost of the later frames, of that of the first, above which it is not flat."""

STEPS = (200, 1000)
CLIPS = 2
SNAPSHOT_STEPS = (1, 50, 200, 500, 1000)
"""Steps that a sheet of frames shows."""
POINTS = 50
"""of a curve at most"""

AlarmMonitor = Callable[[Clip, Tensor, Tensor], None]
"""Called for each rollout: the clip, the last real frame (3, H, W) and the frames (N, 3, H, W), uint8."""

_CODE = (12, 16)
_SHORTEST_PERIOD = 5


class Snapshots:
    """Keeps the frames of long rollouts at `SNAPSHOT_STEPS`, and the last real one as step 0: a `Watch`.

    shown: by drive and step, uint8 (3, H, W); of the longest rollout of each drive.
    """

    def __init__(self) -> None:
        self.shown: dict[str, dict[int, Tensor]] = {}

    def __call__(self, clip: Clip, last: Tensor, frames: Tensor) -> None:
        snapshots = {step: frames[step - 1].clone() for step in SNAPSHOT_STEPS if step <= len(frames)}
        self.shown[clip.drive] = {0: last, **snapshots}


def measure_long_rollouts(
    dream: Dream,
    store: Store,
    split: str,
    context: int,
    steps: Sequence[int] = STEPS,
    *,
    frame_skip: int = 1,
    clips: int = CLIPS,
    watch: AlarmMonitor | None = None,
) -> dict[str, Any]:
    """Predicts from the beginnings of `clips` drives for each number of steps, with their actions again and again.

    A `Dream` gives whole rollouts, so one is asked for at a time and held as uint8: 12 kB a frame at 64x64, 200 kB at
    256x256, for 1000 frames 12 and 200 MB. Cutting it and going on from its own last frames would be another rollout.

    `lengths`: for each number, in its last tenth and over the drive's real frames: `brightness` (levels of 255),
    `contrast`, `sharpness` and `change` as shares of the real, `repetition` (`period` in steps) and `verdict`.
    `ms_per_frame` of each, and `later_cost`: the cost of a frame beyond the shortest length, of that of one within it.
    `curves` of the longest: `steps` (the last of each part), and of these parts brightness, contrast, sharpness and
    change, as shares of the real drive's.
    """
    if min(steps) < 1:
        raise ValueError(f"steps are at least 1, not {min(steps)}")
    chosen = _beginnings(store, split, context, frame_skip, clips)
    lengths: list[dict[str, Any]] = []
    for count in sorted(steps):
        found, curves, seconds = list[dict[str, float | None]](), list[dict[str, Array]](), 0.0
        for clip in chosen:
            seen, real, actions = _read(store, clip, context, count)
            began = time.perf_counter()
            frames = dream(seen[None], actions[None])[0]
            seconds += time.perf_counter() - began
            found.append(_metrics(frames, real, seen[-1]))
            curves.append(_curves(frames, real, seen[-1]))
            if watch is not None:
                watch(clip, seen[-1], frames)
        means = {name: _mean([entry[name] for entry in found]) for name in found[0]}
        lengths.append(
            {
                "steps": count,
                "clips": len(chosen),
                **means,
                "ms_per_frame": round(1000 * seconds / (count * len(chosen)), 4),
                "verdict": _worst([_word(entry) for entry in found]),
            }
        )
    first, last = lengths[0], lengths[-1]
    more = last["steps"] - first["steps"]
    later = None
    if more > 0:
        spent = last["ms_per_frame"] * last["steps"] - first["ms_per_frame"] * first["steps"]
        later = round(spent / more / max(first["ms_per_frame"], 1e-6), 4)
    return {
        "lengths": lengths,
        "later_cost": later,
        "cost_is_flat": None if later is None else later <= LATER,
        "curves": {
            "steps": curves[0].pop("steps").astype(int).tolist(),
            **{name: np.mean([c[name] for c in curves], axis=0).round(4).tolist() for name in curves[0]},
        },
        "thresholds": {
            "collapsed": COLLAPSED, "frozen": FROZEN, "drifted": DRIFTED, "repeats": REPEATS, "later": LATER,
        },
    }  # fmt: skip


def _beginnings(store: Store, split: str, context: int, frame_skip: int, count: int) -> list[Clip]:
    """Clips from the first frame of different drives to their last, evenly chosen among those long enough."""
    need = context * frame_skip + 1
    drives = [drive for drive in store.split(split) if drive.frames >= need]
    if not drives:
        fixed_clips(store, split, context + 1, 1, frame_skip)  # says in a sentence what is too short
    indices = np.unique(np.linspace(0, len(drives) - 1, min(count, len(drives))).round().astype(int))
    return [
        Clip(drives[i].name, drives[i].start, (drives[i].frames - 1) // frame_skip + 1, frame_skip) for i in indices
    ]


def _read(store: Store, clip: Clip, context: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """seen (C, 3, H, W), up to 300 real frames of the drive (R, 3, H, W), actions (C-1+N, 4) that begin anew at the
    first one after the context when the drive ends."""
    skip = clip.frame_skip
    rows = clip.start + skip * np.arange(min(clip.length, max(context, 300)))
    frames = torch.from_numpy(read_images(store, rows)[0]).movedim(-1, 1).contiguous()
    every = store.read_actions(clip.start + np.arange(skip * (clip.length - 1)))
    driven = combine(every[None], skip)[0]
    again = np.resize(np.arange(context - 1, len(driven)), steps)
    return frames[:context], frames, torch.from_numpy(np.concatenate((driven[: context - 1], driven[again])))


def _metrics(frames: Tensor, real: Tensor, last: Tensor) -> dict[str, float | None]:
    """Of the last tenth of a rollout, beside the real frames."""
    tail = frames[-max(2, len(frames) // 10) :]
    ours = _appearance(tail, torch.cat((last[None], frames))[-len(tail) - 1 : -1])
    theirs = _appearance(real[1:], real[:-1])
    deviation = max(float(real.float().mean((1, 2, 3)).std()), LEAST_DEVIATION)
    repetition, period = _repetition(frames)
    return {
        "brightness": ours["brightness"],
        "real_brightness": theirs["brightness"],
        "drift": (ours["brightness"] - theirs["brightness"]) / deviation,
        **{name: ours[name] / max(theirs[name], 1e-6) for name in ("contrast", "sharpness", "change")},
        "repetition": repetition,
        "period": period,
        "real_repetition": _repetition(real)[0],
    }


def _curves(frames: Tensor, real: Tensor, last: Tensor) -> dict[str, Array]:
    """How the parts of a rollout look, of how the real frames do; `steps`: the last of each part."""
    edges = np.unique(np.linspace(0, len(frames), min(POINTS, len(frames)) + 1).round().astype(int))
    before = torch.cat((last[None], frames[:-1]))
    parts = [_appearance(frames[begin:end], before[begin:end]) for begin, end in pairwise(edges)]
    shares = {
        name: np.array([part[name] for part in parts]) / max(theirs, 1e-6)
        for name, theirs in _appearance(real[1:], real[:-1]).items()
    }
    return {"steps": edges[1:], **shares}


def _appearance(frames: Tensor, before: Tensor) -> dict[str, float]:
    """Means over frames, in levels of 255. before: the frame before each."""
    levels = frames.float()
    return {
        "brightness": float(levels.mean()),
        "contrast": float(levels.flatten(1).std(dim=1).mean()),
        "sharpness": float(sharpness(frames).mean()),
        "change": float(change(frames, before).mean()),
    }


def _repetition(frames: Tensor) -> tuple[float | None, float | None]:
    """The strongest correlation of small frames, less their mean over time, with those `period` steps before.

    Looked for in the second half, once the beginning is forgotten, from 5 steps to half of it. None where nothing
    moves or there are too few frames.
    """
    half = frames[len(frames) // 2 :]
    if len(half) < 4 * _SHORTEST_PERIOD:
        return None, None
    codes: Array = adaptive_avg_pool2d(half.float(), _CODE).flatten(1).double().numpy()
    codes -= codes.mean(axis=0)
    power = np.square(codes).sum(axis=1)
    if power.mean() < 1.0:
        return None, None
    found = []
    for lag in range(1, len(codes) // 2 + 1):
        product = (codes[lag:] * codes[:-lag]).sum()
        found.append(product / np.sqrt(power[lag:].sum() * power[:-lag].sum() + 1e-12))
    # What moves slowly is like what was just before; a period is a return, after having been less alike.
    curve = np.array(found)
    left = np.minimum.accumulate(curve)
    returned = np.where((np.arange(1, len(curve) + 1) >= _SHORTEST_PERIOD) & (left < curve - 0.1), curve, -1.0)
    best = int(returned.argmax())
    return (float(returned[best]), float(best + 1)) if returned[best] > -1.0 else (0.0, None)


def _word(found: dict[str, float | None]) -> str:
    def of(name: str) -> float:
        value = found[name]
        return 0.0 if value is None else value

    if of("contrast") < COLLAPSED or of("sharpness") < COLLAPSED:
        return "collapses"
    if of("change") < FROZEN:
        return "stands still"
    if of("repetition") > REPEATS:
        return "repeats itself"
    if abs(of("drift")) > DRIFTED:
        return "drifts in brightness"
    return "holds"


def _worst(words: Sequence[str]) -> str:
    order = ("collapses", "stands still", "repeats itself", "drifts in brightness", "holds")
    return min(words, key=order.index)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if known else None
