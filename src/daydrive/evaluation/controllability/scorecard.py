"""The controllability scorecard: whether a model's rollouts follow the actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.evaluation.controllability.action_response import response
from daydrive.evaluation.controllability.branches import (
    ActionChange,
    BranchSet,
    road_branches,
    rollout_branches,
    steered_by,
    unchanged,
    with_pedals,
)
from daydrive.evaluation.controllability.criteria import MIN_READ_CORRELATION, judge
from daydrive.evaluation.controllability.egomotion import KINDS, Estimators, calibrate, speeds_at, with_last
from daydrive.evaluation.controllability.flow import Array, motions, to_grey
from daydrive.evaluation.controllability.training_index import TrainingIndex
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, RolloutFunction, other_clips
from daydrive.evaluation.metrics.intervals import Bootstrap, bootstrap, interval
from daydrive.metrics import change, psnr
from daydrive.types import Clip

MOTION_VARIANTS = ("true", "wrong")
"""Action variants for which the motion in the rollouts is estimated."""

VARIANTS = {
    "true": "as recorded",
    "wrong": "of another clip",
    "mirrored": "steering mirrored",
    "zeroed": "no steering, no pedals",
    "delayed": "one step late",
    "early": "one step early",
}
"""Action variants given to the model, with their descriptions."""


class Branch(NamedTuple):
    """description: in words. change: of the driver's command."""

    description: str
    change: ActionChange


BRANCHES = {
    "straight on": Branch("the driver's command, held", unchanged),
    "left": Branch("steering 0.5 further to the left", steered_by(-0.5)),
    "right": Branch("steering 0.5 further to the right", steered_by(0.5)),
    "brake": Branch("no throttle, brake at 0.7", with_pedals(0.0, 0.7)),
    "accelerate": Branch("full throttle, no brake", with_pedals(1.0, 0.0)),
}
CHANGES = tuple(branch.change for branch in BRANCHES.values())
STEERING, PACE = (0, 1, 2), (0, 3, 4)
"""Indices of the branches that differ in steering, and of those that differ in the pedals."""
FIRST_SEED = 2_000_003
"""First seed of the roads; training data uses small seeds."""


def score_controllability(
    rollout_fn: RolloutFunction,
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
    dist: DistributedContext | None = None,
) -> dict[str, Any]:
    """Predicts clips of a split with six variants of the actions and scores how well the rollouts follow them.

    steps: predicted steps per clip, fewer if the drives are shorter. estimators: from `calibrate`, which is called if
    they are not given. index: of the store's training drives. Both are the same for every model on a store. moments:
    branches of a resettable environment, see `road_moments` and `drive_branches`. dist: the processes that share the
    clips; each passes its own share of the moments.

    Returns, serializable as JSON, `costs`: for each of `VARIANTS` the loss of PSNR in dB against the true actions, mean
    over clips and steps, with its confidence interval over drives and the values `by_step`. `change`: from frame to
    frame, relative to the real frames. `difference`: between predictions with true and another clip's actions, relative
    to the change of the real frames since the last context frame. `egomotion`: the estimated motion, see `response`,
    beside that of the real frames and the estimators' errors; `trusted` is the estimator used for the verdict.
    `branches`: see `branch_metrics`. `verdict`, `mark`, `checks`, `thresholds`: see `judge`.
    Raises UserError if the split has fewer than two clips.
    """
    chosen = _choose_clips(store, split, context, steps, clips, frame_skip)
    steps = chosen[0].length - context
    estimators = estimators or calibrate(store, split, frame_skip, seed)
    index = index or TrainingIndex(store)
    draws = bootstrap([clip.drive for clip in chosen], seed=seed)
    partner = other_clips(chosen, seed)
    dist = dist or DistributedContext.single(torch.device("cpu"))
    parts = [range(start, min(start + batch_size, len(chosen))) for start in range(0, len(chosen), batch_size)]

    def measured(part: range) -> dict[str, Array]:
        """Arrays (clips, …) by name, of the clips with these indices."""
        found: dict[str, Array] = {}
        batch = read_clips(store, [chosen[i] for i in part])
        borrowed = read_clips(store, [chosen[partner[i]] for i in part]).actions
        seen, real = batch.images[:, :context], batch.images[:, context:]
        given = variants(batch.actions, borrowed, context)
        predicted = {name: rollout_fn(seen, actions) for name, actions in given.items()}
        for name, frames in predicted.items():
            assert frames.shape == real.shape and frames.dtype == torch.uint8, (frames.shape, frames.dtype)
            found[f"psnr {name}"] = psnr(frames, real, UINT8_RANGE).double().numpy()
        for name, frames in {"real": real, **{name: predicted[name] for name in MOTION_VARIANTS}}.items():
            sequence = with_last(seen, frames)
            found[f"change {name}"] = change(sequence[:, 1:], sequence[:, :-1]).double().numpy()
            grey = to_grey(sequence)
            motion = motions(grey)
            found[f"approach {name}"] = motion[..., 2]
            for kind, estimate in estimators.estimate(grey, motion).items():
                found[f"{kind} turn {name}"] = estimate.turn
                if estimate.speed is not None:
                    found[f"{kind} speed {name}"] = estimate.speed
        found["difference"] = change(predicted["true"], predicted["wrong"]).double().numpy()
        found["distance"] = change(real, seen[:, -1:].expand_as(real)).double().numpy()
        rows = [chosen[i].start + frame_skip * np.arange(chosen[i].length - 1) for i in part]
        speed = speeds_at(store, rows)
        found["speed"] = speed
        for name in MOTION_VARIANTS:
            steering = given[name][..., 0].double().numpy()
            found[f"command {name}"] = steering if estimators.quantity == "steering" else steering * speed
        for name, images in (("dream", predicted["true"]), ("real", real)):
            nearest = [index.nearest(frames, chosen[i].drive) for i, frames in zip(part, images, strict=True)]
            psnrs = [values for values in nearest if values is not None]
            if psnrs:
                found[f"nearest {name}"] = np.stack(psnrs)
        return found

    batches = dist.gather([measured(part) for part in dist.share(parts)])
    names = dict.fromkeys(name for batch in batches for name in batch)
    metrics = {name: np.concatenate([batch[name] for batch in batches if name in batch]) for name in names}
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
        "nearest_training_frame": _nearest_frames(metrics),
        "egomotion": _egomotion(metrics, estimators, context, draws),
        "branches": branch_metrics(rollout_fn, moments, dist),
    }
    return {**judge(scores), **scores}


def variants(actions: Tensor, borrowed: Tensor, context: int) -> dict[str, Tensor]:
    """The actions float32 (B, C-1+N, 4) of each of `VARIANTS`; those between the `context` frames are unchanged.

    borrowed: actions of other clips, of the same shape. The early variant repeats the last action at the end.
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
    image_size: tuple[int, int],
    context: int,
    frame_skip: int = 1,
    count: int = 16,
    seed: int = 0,
    dist: DistributedContext | None = None,
) -> Iterator[BranchSet]:
    """Yields the `BRANCHES` of `count` moments in the road world, on roads that no dataset contains; with `dist` those
    of this process's share."""
    seeds = [FIRST_SEED + 1000 * seed + i for i in range(count)]
    own = dist.share(seeds) if dist else seeds
    return road_branches(image_size, context, own, CHANGES, frame_skip=frame_skip)


def branch_metrics(
    rollout_fn: RolloutFunction, moments: Iterable[BranchSet], dist: DistributedContext | None = None
) -> dict[str, Any] | None:
    """Compares predicted branches with the true ones, averaged over the moments, of which one is in memory at a time.

    dist: processes with a share of the moments each.

    None without moments. `branches`: for each branch `psnr` in dB at 1, 5 and 10 steps, `copy_last_psnr`, and
    `nearest`: the shares of predictions nearest to each true branch at the last step, in the order of the branches.
    `steering_told_apart`, `pace_told_apart`: branch accuracies, the shares of predictions nearest to their own branch
    among the three that differ in steering, or in the pedals, with ties shared; chance is 1/3.
    """
    rollouts = (rollout_branches(rollout_fn, moment) for moment in moments)
    measured = [
        (
            rollout.own_psnr,
            rollout.copy_last_psnr,
            rollout.nearest(),
            torch.stack([rollout.nearest(group).diagonal().mean() for group in (STEERING, PACE)]),
        )
        for rollout in rollouts
    ]
    measured = dist.gather(measured) if dist else measured
    if not measured:
        return None
    own, copied, nearest, accuracy = zip(*measured, strict=True)
    steps = [t for t in (1, 5, 10) if t <= own[0].shape[1]]
    mean, baseline, matrix = (torch.stack(values).mean(0) for values in (own, copied, nearest))
    steering, pace = torch.stack(accuracy).mean(0).tolist()
    return {
        "moments": len(own),
        "steps": steps,
        "branches": {
            name: {
                "what": branch.description,
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


def _choose_clips(store: Store, split: str, context: int, steps: int, count: int, frame_skip: int) -> list[Clip]:
    longest = max((drive.frames for drive in store.split(split)), default=0)
    available = (longest - 1) // frame_skip + 1 - context
    chosen = fixed_clips(store, split, context + max(1, min(steps, available)), count, frame_skip)
    if len(chosen) < 2:
        raise UserError(
            f"the controllability scorecard needs at least two clips, but the split '{split}' of {store.path} has one"
        )
    return chosen


def _cost(metrics: dict[str, Array], name: str, draws: Bootstrap | None) -> dict[str, Any]:
    cost = metrics["psnr true"] - metrics[f"psnr {name}"]
    bounds = None
    if draws is not None:
        low, high = interval(draws.means(cost.mean(axis=1)))
        bounds = [_rounded(low), _rounded(high)]
    by_step = [_rounded(value) for value in cost.mean(axis=0)]
    return {"what": VARIANTS[name], "cost": _rounded(cost.mean()), "interval": bounds, "by_step": by_step}


def _nearest_frames(metrics: dict[str, Array]) -> dict[str, float] | None:
    """The median over clips of each clip's highest PSNR to a training frame."""
    if "nearest dream" not in metrics:
        return None
    return {f"{name}_psnr": _rounded(np.median(metrics[f"nearest {name}"].max(axis=1))) for name in ("dream", "real")}


def _egomotion(
    metrics: dict[str, Array], estimators: Estimators, context: int, draws: Bootstrap | None
) -> dict[str, Any]:
    turn: dict[str, Any] = {}
    speed: dict[str, Any] = {}
    for kind in KINDS:
        turn[kind] = {
            name: response(metrics[f"{kind} turn {name}"], metrics[f"command {command}"], context, draws)
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
        "turn_is": estimators.quantity,
        "calibrated_at_delay": estimators.lag,
        "errors_on_real_frames": estimators.errors,
        "trusted": best if strength[best] >= MIN_READ_CORRELATION else None,
        "turn": turn,
        "speed": speed or None,
        "parallax": _ratio(metrics["approach true"].mean(), metrics["approach real"].mean()),
    }


def _ratio(predicted: float, real: float) -> float | None:
    return _rounded(predicted / real) if real > 1e-3 else None


def _rounded(value: Any) -> float:
    return round(float(value), 4)
