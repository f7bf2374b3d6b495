"""Does the model obey the wheel? Counterfactuals in the road world, where every branch has its true future.

From the same moment the world itself drives on to the left, as the driver would, and to the right. The model gets the
same frames and the three commands. One that steers is nearest to its own branch; one that ignores the wheel predicts
the same future three times and is as near to the others' branches as to its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from daydrive.envs.road.env import HZ
from daydrive.evaluation.controllability.branches import (
    STEPS,
    BranchRollout,
    BranchSet,
    held,
    road_branches,
    roll_out,
    steered_by,
)
from daydrive.evaluation.metrics.frame_metrics import Dream
from daydrive.report.plots import BranchClip, branch_sheet, branch_video
from daydrive.viz.images import write_png, write_video

BRANCHES = {"left": -0.5, "straight": 0.0, "right": 0.5}
"""What is added to the driver's steering, all the way."""

_CHANGES = [steered_by(offset) if offset else held for offset in BRANCHES.values()]
_REPORTED = (1, 5, 10)
_SHOWN = 3
"""Moments in the video."""
_FIRST_SEED = 1_000_003
"""Of the worlds: training data is made from small seeds."""


def counterfactual(
    dream: Dream,
    image_size: tuple[int, int],
    context: int,
    *,
    frame_skip: int = 1,
    moments: int = 16,
    output: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares a model with the road world's own branches from `moments` moments on roads it has not seen.

    Returns what `compare` does, with the rate in Hz and the seeds; with `output`, a folder, also draws
    `counterfactual.png` and `counterfactual.mp4` there, from the first moments.
    """
    seeds = [_FIRST_SEED + seed * 1000 + i for i in range(moments)]
    shown: list[BranchRollout] = []

    def rollouts() -> Iterator[BranchRollout]:
        for branches in road_moments(image_size, context, frame_skip, seeds):
            rollout = roll_out(dream, branches)
            if len(shown) < _SHOWN:
                shown.append(rollout)
            yield rollout

    result = compare(rollouts())
    hz = HZ / frame_skip
    if output is not None:
        names = list(BRANCHES)
        parts = [BranchClip(*each.branches[:3], each.predicted) for each in shown]
        write_png(output / "counterfactual.png", branch_sheet(names, parts[0], hz))
        write_video(output / "counterfactual.mp4", branch_video(names, parts, hz), hz)
    return {"hz": hz, "seeds": [seeds[0], seeds[-1]], **result}


def compare(rollouts: Iterable[BranchRollout]) -> dict[str, Any]:
    """PSNR in dB at 1, 5 and 10 steps, means over the moments, one of which is held at a time.

    `branches`: for each, `psnr` against its own future, `copy_last_psnr` (the baseline) and `other_branches_psnr`,
    against the other branches' futures. `told_apart`: the share of predictions nearest, at the last step, to their own
    branch of the three, with ties shared; chance is 1/3.
    """
    own, copied, other, nearest = [], [], [], []
    for rollout in rollouts:
        own.append(rollout.own_psnr)
        other.append(rollout.other_psnr)
        copied.append(rollout.copy_last_psnr)
        nearest.append(rollout.nearest().diagonal())
    steps = [t for t in _REPORTED if t <= own[0].shape[1]]
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
    """One moment for each seed's road: driven there by the world's driver, at speed, then branched `STEPS` ahead."""
    return road_branches(image_size, context, seeds, _CHANGES, frame_skip=frame_skip, steps=STEPS)
