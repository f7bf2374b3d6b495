"""The controllability scorecard: does a model obey its driver?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation.controllability.action_response import response
from daydrive.evaluation.controllability.branches import (
    BranchSet,
    Change,
    held,
    road_branches,
    roll_out,
    steered_by,
    with_pedals,
)
from daydrive.evaluation.controllability.criteria import SURE_OF_READING, judge
from daydrive.evaluation.controllability.egomotion import KINDS, Estimators, calibrate, speeds_at, with_last
from daydrive.evaluation.controllability.flow import Array, greys, motions
from daydrive.evaluation.controllability.training_index import TrainingIndex
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, Dream, other_clips
from daydrive.evaluation.metrics.intervals import Bootstrap, bootstrap, interval
from daydrive.metrics import change, psnr
from daydrive.types import Clip

READ = ("true", "wrong")
"""Rollouts whose motion is read back."""


VARIANTS = {
    "true": "as they were driven",
    "wrong": "those of another clip",
    "mirrored": "steering to the other side",
    "zeroed": "wheel straight, pedals free",
    "delayed": "one step late",
    "early": "one step early",
}
"""The same clip driven otherwise: which actions the model is given instead of the true ones."""


class Branch(NamedTuple):
    """what: in words. change: of the driver's command."""

    what: str
    change: Change


BRANCHES = {
    "straight on": Branch("the driver's command, held", held),
    "left": Branch("steering 0.5 further to the left", steered_by(-0.5)),
    "right": Branch("steering 0.5 further to the right", steered_by(0.5)),
    "brake": Branch("no throttle, brake at 0.7", with_pedals(0.0, 0.7)),
    "accelerate": Branch("full throttle, no brake", with_pedals(1.0, 0.0)),
}
CHANGES = tuple(branch.change for branch in BRANCHES.values())
STEERING, PACE = (0, 1, 2), (0, 3, 4)
"""Which of the branches differ by the wheel, and which by the pedals."""
FIRST_SEED = 2_000_003
"""Of the worlds: training data is made from small seeds."""


def score_controllability(
    dream: Dream,
    store: Store,
    split: str,
    *,
    context: int,
    frame_skip: int = 1,
    seed: int = 0,
    steps: int = 15,
    clips: int = 32,
    batch_size: int = 8,
    estimators: Estimators | None = None,
    moments: Iterable[BranchSet] = (),
    index: TrainingIndex | None = None,
) -> dict[str, Any]:
    """Predicts clips of a split from six kinds of actions and says whether the model obeys; JSON-able.

    estimators: see `calibrate`, which makes them where they are not given; index: of the store's training drives; both
    are the same for every model on a store.
    moments: of a world that can be driven again, see `road_moments` and `drive_branches`.

    `costs`: for each of `VARIANTS` the PSNR in dB that it costs against the true actions, mean over clips and steps,
    with its interval over drives and its values `by_step`. `change`: from frame to frame, of that of the real frames.
    `difference`: of the predictions with true and with another clip's actions, of that of the real frames from the last
    one seen. `egomotion`: what is read back, see `response`, beside the real frames and the estimators' own errors;
    `trusted` is the estimator that the verdict is from. `branches`: see `branch_metrics`. `verdict`, `mark`, `checks`,
    `thresholds`: see `judge`.
    UserError for a split without two clips.
    """
    chosen = _choose(store, split, context, steps, clips, frame_skip)
    steps = chosen[0].length - context
    reader = estimators or calibrate(store, split, frame_skip, seed)
    index = index or TrainingIndex(store)
    draws = bootstrap([clip.drive for clip in chosen], seed=seed)
    partner = other_clips(chosen, seed)
    collected: dict[str, list[Array]] = {}

    def collect(name: str, values: Array) -> None:
        collected.setdefault(name, []).append(values)

    for begin in range(0, len(chosen), batch_size):
        part = range(begin, min(begin + batch_size, len(chosen)))
        batch = read_clips(store, [chosen[i] for i in part])
        borrowed = read_clips(store, [chosen[partner[i]] for i in part]).actions
        seen, real = batch.images[:, :context], batch.images[:, context:]
        given = variants(batch.actions, borrowed, context)
        predicted = {name: dream(seen, actions) for name, actions in given.items()}
        for name, frames in predicted.items():
            assert frames.shape == real.shape and frames.dtype == torch.uint8, (frames.shape, frames.dtype)
            collect(f"psnr {name}", psnr(frames, real, UINT8_RANGE).double().numpy())
        for name, frames in {"real": real, **{name: predicted[name] for name in READ}}.items():
            followed = with_last(seen, frames)
            collect(f"change {name}", change(followed[:, 1:], followed[:, :-1]).double().numpy())
            grey = greys(followed)
            moved = motions(grey)
            collect(f"approach {name}", moved[..., 2])
            for kind, reading in reader.read(grey, moved).items():
                collect(f"{kind} turn {name}", reading.turn)
                if reading.speed is not None:
                    collect(f"{kind} speed {name}", reading.speed)
        collect("difference", change(predicted["true"], predicted["wrong"]).double().numpy())
        collect("distance", change(real, seen[:, -1:].expand_as(real)).double().numpy())
        rows = [chosen[i].start + frame_skip * np.arange(chosen[i].length - 1) for i in part]
        speed = speeds_at(store, rows)
        collect("speed", speed)
        for name in READ:
            wheel = given[name][..., 0].double().numpy()
            collect(f"wheel {name}", wheel if reader.quantity == "steering" else wheel * speed)
        for k, i in enumerate(part):
            for name, frames in (("dream", predicted["true"][k]), ("real", real[k])):
                near = index.nearest(frames, chosen[i].drive)
                if near is not None:
                    collect(f"nearest {name}", near[None])
    metrics = {name: np.concatenate(values) for name, values in collected.items()}
    scores: dict[str, Any] = {
        "clips": len(chosen),
        "steps": steps,
        "context": context,
        "frame_skip": frame_skip,
        "hz": store.clip_hz(frame_skip),
        "drives": len({clip.drive for clip in chosen}),
        "psnr": _rounded(metrics["psnr true"].mean()),
        "costs": {name: _cost(metrics, name, draws) for name in VARIANTS if name != "true"},
        "change": _ratio(metrics["change true"].mean(), metrics["change real"].mean()),
        "difference": _ratio(metrics["difference"].mean(), metrics["distance"].mean()),
        "nearest_training_frame": _nearness(metrics),
        "egomotion": _egomotion(metrics, reader, context, draws),
        "branches": branch_metrics(dream, moments),
    }
    return {**judge(scores), **scores}


def variants(actions: Tensor, borrowed: Tensor, context: int) -> dict[str, Tensor]:
    """float32 (B, C-1+N, 4) by the names of `VARIANTS`; what lies between the `context` frames stays as it was.

    borrowed: actions of other clips, of the same shape. The early ones repeat the last action at the end.
    """
    first = context - 1
    ahead = actions[:, first:]
    before = actions[:, first - 1 : -1] if first else torch.cat((ahead[:, :1], ahead[:, :-1]), dim=1)
    free = ahead.clone()
    free[..., :3] = 0.0
    futures = {
        "true": ahead,
        "wrong": borrowed[:, first:],
        "mirrored": ahead * ahead.new_tensor([-1.0, 1.0, 1.0, 1.0]),
        "zeroed": free,
        "delayed": before,
        "early": torch.cat((ahead[:, 1:], ahead[:, -1:]), dim=1),
    }
    return {name: torch.cat((actions[:, :first], future), dim=1) for name, future in futures.items()}


def road_moments(
    image_size: tuple[int, int], context: int, frame_skip: int = 1, count: int = 16, seed: int = 0
) -> Iterator[BranchSet]:
    """Of the road world, on roads that no data set has, driven on in each of the `BRANCHES`."""
    seeds = [FIRST_SEED + 1000 * seed + i for i in range(count)]
    return road_branches(image_size, context, seeds, CHANGES, frame_skip=frame_skip)


def branch_metrics(dream: Dream, moments: Iterable[BranchSet]) -> dict[str, Any] | None:
    """A model beside the world's own futures, mean over the moments, one of which is held at a time; None without any.

    `branches`: for each its `psnr` in dB at 1, 5 and 10 steps, `copy_last_psnr`, and `nearest`: to which branch of the
    world, at the last step, the prediction was nearest, as shares in the branches' order. `steering_told_apart`,
    `pace_told_apart`: share nearest to their own branch among the three that differ by the wheel, or by the pedals,
    with ties shared; chance is 1/3.
    """
    own, copied, nearest, told_apart = [], [], [], []
    for moment in moments:
        rollout = roll_out(dream, moment)
        own.append(rollout.own_psnr)
        copied.append(rollout.copy_last_psnr)
        nearest.append(rollout.nearest())
        told_apart.append(torch.stack([rollout.nearest(group).diagonal().mean() for group in (STEERING, PACE)]))
    if not own:
        return None
    steps = [t for t in (1, 5, 10) if t <= own[0].shape[1]]
    mean, baseline, matrix = (torch.stack(values).mean(0) for values in (own, copied, nearest))
    steering, pace = torch.stack(told_apart).mean(0).tolist()
    return {
        "moments": len(own),
        "steps": steps,
        "branches": {
            name: {
                "what": branch.what,
                "psnr": [round(mean[b, t - 1].item(), 4) for t in steps],
                "copy_last_psnr": [round(baseline[b, t - 1].item(), 4) for t in steps],
                "nearest": [round(share, 4) for share in matrix[b].tolist()],
            }
            for b, (name, branch) in enumerate(BRANCHES.items())
        },
        "steering_told_apart": round(steering, 4),
        "pace_told_apart": round(pace, 4),
        "told_apart_by_chance": round(1 / len(STEERING), 4),
    }


def _choose(store: Store, split: str, context: int, steps: int, count: int, frame_skip: int) -> list[Clip]:
    longest = max((drive.frames for drive in store.split(split)), default=0)
    available = (longest - 1) // frame_skip + 1 - context
    chosen = fixed_clips(store, split, context + max(1, min(steps, available)), count, frame_skip)
    if len(chosen) < 2:
        where = f"the split '{split}' of {store.path}"
        raise UserError(f"the controllability scorecard needs two clips, and {where} has one")
    return chosen


def _cost(metrics: dict[str, Array], name: str, draws: Bootstrap | None) -> dict[str, Any]:
    lost = metrics["psnr true"] - metrics[f"psnr {name}"]
    bounds = None
    if draws is not None:
        low, high = interval(draws.means(lost.mean(axis=1)))
        bounds = [_rounded(low), _rounded(high)]
    by_step = [_rounded(value) for value in lost.mean(axis=0)]
    return {"what": VARIANTS[name], "cost": _rounded(lost.mean()), "interval": bounds, "by_step": by_step}


def _nearness(metrics: dict[str, Array]) -> dict[str, float] | None:
    """Of each clip the frame that is nearest to a training frame; the median clip."""
    if "nearest dream" not in metrics:
        return None
    return {f"{name}_psnr": _rounded(np.median(metrics[f"nearest {name}"].max(axis=1))) for name in ("dream", "real")}


def _egomotion(metrics: dict[str, Array], reader: Estimators, context: int, draws: Bootstrap | None) -> dict[str, Any]:
    turn: dict[str, Any] = {}
    speed: dict[str, Any] = {}
    for kind in KINDS:
        turn[kind] = {
            name: response(metrics[f"{kind} turn {name}"], metrics[f"wheel {command}"], context, draws)
            for name, command in (("real", "true"), ("true", "true"), ("wrong", "wrong"))
        }
        if f"{kind} speed real" in metrics:
            speed[kind] = {
                name: response(metrics[f"{kind} speed {name}"], metrics["speed"], context, draws, (0, 0))
                for name in ("real", "true")
            }
    strength = {kind: turn[kind]["real"]["correlation"] or 0.0 for kind in KINDS}
    best = max(KINDS, key=lambda kind: strength[kind])
    return {
        "turn_is": reader.quantity,
        "calibrated_at_delay": reader.lag,
        "errors_on_real_frames": reader.errors,
        "trusted": best if strength[best] >= SURE_OF_READING else None,
        "turn": turn,
        "speed": speed or None,
        "parallax": _ratio(metrics["approach true"].mean(), metrics["approach real"].mean()),
    }


def _ratio(ours: float, real: float) -> float | None:
    return _rounded(ours / real) if real > 1e-3 else None


def _rounded(value: Any) -> float:
    return round(float(value), 4)
