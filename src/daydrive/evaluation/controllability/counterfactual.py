"""Counterfactual steering in the road world, where the true future of every branch is known.

From the same moment the simulator drives left, as the driver would, and right. The model gets the same frames and the
three commands. A model that follows the steering is nearest to the branch of its own command; a model that ignores it
predicts the same future three times and is equally near to all branches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from daydrive.distributed import DistributedContext
from daydrive.envs.road.env import HZ
from daydrive.evaluation.controllability.branches import (
    STEPS,
    BranchRollout,
    BranchSet,
    road_branches,
    rollout_branches,
    steered_by,
    unchanged,
)
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.report.plots import BranchClip, branch_sheet, branch_video
from daydrive.viz.images import write_png, write_video

BRANCHES = {"left": -0.5, "straight": 0.0, "right": 0.5}
"""Constant offset added to the driver's steering."""

_CHANGES = [steered_by(offset) if offset else unchanged for offset in BRANCHES.values()]
_REPORTED_STEPS = (1, 5, 10)
_SHOWN = 3
"""Number of moments in the video."""
_FIRST_SEED = 1_000_003
"""First seed of the roads; training data uses small seeds."""


def counterfactual(
    rollout_fn: RolloutFunction,
    image_size: tuple[int, int],
    context: int,
    *,
    frame_skip: int = 1,
    moments: int = 16,
    output: Path | None = None,
    seed: int = 0,
    dist: DistributedContext | None = None,
) -> dict[str, Any]:
    """Compares a model with the true branches of `moments` moments on unseen roads of the road world.

    Returns the result of `compare` with the rate in Hz and the range of seeds. If a folder `output` is given, also
    writes `counterfactual.png` and `counterfactual.mp4` there, from the first moments. dist: the processes that share
    the moments.
    """
    seeds = [_FIRST_SEED + seed * 1000 + i for i in range(moments)]
    dist = dist or DistributedContext.single(torch.device("cpu"))
    shown: list[BranchClip] = []

    def rollouts() -> Iterator[BranchRollout]:
        for branches in road_moments(image_size, context, frame_skip, dist.share(seeds)):
            rollout = rollout_branches(rollout_fn, branches)
            if len(shown) < len(dist.share(range(_SHOWN))):
                shown.append(BranchClip(*branches[:3], rollout.predicted))
            yield rollout

    result = compare(rollouts(), dist)
    clips = dist.gather(shown)
    hz = HZ / frame_skip
    if output is not None:
        names = list(BRANCHES)
        write_png(output / "counterfactual.png", branch_sheet(names, clips[0], hz))
        write_video(output / "counterfactual.mp4", branch_video(names, clips, hz), hz)
    return {"hz": hz, "seeds": [seeds[0], seeds[-1]], **result}


def compare(rollouts: Iterable[BranchRollout], dist: DistributedContext | None = None) -> dict[str, Any]:
    """PSNR in dB at 1, 5 and 10 steps, averaged over the moments, of which one is in memory at a time.

    `branches`: for each branch `psnr` against its own future, `copy_last_psnr` (the baseline) and `other_branches_psnr`
    against the futures of the other branches. `told_apart`: the branch accuracy, the share of predictions that are
    nearest to their own branch at the last step, with ties shared; chance is 1/3. dist: processes with a share of the
    rollouts each.
    """
    measured = [(r.own_psnr, r.copy_last_psnr, r.other_psnr, r.nearest().diagonal()) for r in rollouts]
    own, copied, other, nearest = zip(*(dist.gather(measured) if dist else measured), strict=True)
    steps = [t for t in _REPORTED_STEPS if t <= own[0].shape[1]]
    means = {
        name: torch.stack(values).mean(0)
        for name, values in (("psnr", own), ("copy_last_psnr", copied), ("other_branches_psnr", other))
    }
    return {
        "moments": len(own),
        "steps": steps,
        "branches": {
            name: {
                "steering_offset": offset,
                **{metric: [round(mean[b, t - 1].item(), 6) for t in steps] for metric, mean in means.items()},
            }
            for b, (name, offset) in enumerate(BRANCHES.items())
        },
        "told_apart": round(torch.stack(nearest).mean().item(), 6),
        "told_apart_by_chance": round(1 / len(BRANCHES), 6),
    }


def road_moments(
    image_size: tuple[int, int], context: int, frame_skip: int, seeds: Sequence[int]
) -> Iterator[BranchSet]:
    """The branches of one moment of each seed's road, `STEPS` steps long; the car moves at the moment."""
    return road_branches(image_size, context, seeds, _CHANGES, frame_skip=frame_skip, steps=STEPS)
