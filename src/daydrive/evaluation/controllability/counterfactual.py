"""Does the dream obey the wheel? Counterfactuals in the road world, where every branch has its true future.

From the same moment the world itself drives on to the left, as the driver would, and to the right. The dream gets the
same pictures and the three commands. One that steers is nearest to its own branch; one that ignores the wheel paints
the same future three times and is as near to the others' branches as to its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.envs.road import Driver, RoadEnv
from daydrive.envs.road.env import HZ
from daydrive.evaluation.controllability.branches import forks
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, Dream
from daydrive.metrics import psnr
from daydrive.types import ACTION_HIGH, ACTION_LOW, Image
from daydrive.viz.images import (
    contact_sheet,
    enlarge,
    overlay_action,
    side_by_side,
    to_images,
    write_png,
    write_video,
)

BRANCHES = {"left": -0.5, "straight": 0.0, "right": 0.5}
"""What is added to the driver's steering, all the way."""

STEPS = 10
_REPORTED, _DRAWN = (1, 5, 10), (1, 3, 5, 8, 10)
_UNSEEN = 1_000_003
"""First seed of the worlds: training data is made from small seeds."""

Actions = npt.NDArray[np.float32]


class Moment(NamedTuple):
    """Where the branches part; three of them, in the order of `BRANCHES`.

    seen: uint8 (C, 3, H, W). actions: float32 (3, C-1+N, 4), the first C-1 alike. real: uint8 (3, N, 3, H, W), the
    world's own futures.
    """

    seen: Tensor
    actions: Tensor
    real: Tensor


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
    """Compares a dream with the road world's own branches from `moments` moments on roads it has not seen.

    Returns what `compare` does, with the rate in Hz and the seeds; with `output`, a folder, also draws
    `counterfactual.png` and `counterfactual.mp4` there, from the first moments.
    """
    seeds = [_UNSEEN + seed * 1000 + i for i in range(moments)]
    kept: list[tuple[Moment, Tensor]] = []
    result = compare(dream, road_moments(image_size, context, frame_skip, seeds), kept, keep=3)
    hz = HZ / frame_skip
    if output is not None:
        write_png(output / "counterfactual.png", branch_sheet(*kept[0], hz))
        write_video(output / "counterfactual.mp4", branch_film(kept, hz), hz)
    return {"hz": hz, "seeds": [seeds[0], seeds[-1]], **result}


def compare(
    dream: Dream, moments: Iterable[Moment], kept: list[tuple[Moment, Tensor]] | None = None, keep: int = 0
) -> dict[str, Any]:
    """PSNR in dB at 1, 5 and 10 steps, means over the moments, holding one moment at a time.

    `branches`: for each, `psnr` against its own future, `copy_last_psnr` (the floor) and `other_branches_psnr`, against
    the other branches' futures. `told_apart`: the share of dreams nearest, at the last step, to their own branch of the
    three, with ties shared; chance is 1/3. The first `keep` moments are put in `kept` with their dreams.
    """
    own, copied, other, nearest = [], [], [], []
    for moment in moments:
        count = len(BRANCHES)
        dreamt = dream(moment.seen.expand(count, *moment.seen.shape), moment.actions)
        if kept is not None and len(kept) < keep:
            kept.append((moment, dreamt))
        every = psnr(
            dreamt[:, None].expand(count, count, *dreamt.shape[1:]),
            moment.real[None].expand(count, count, *dreamt.shape[1:]),
            UINT8_RANGE,
        ).double()  # (dream, world, step)
        same = torch.eye(count, dtype=torch.bool)
        own.append(every[same])
        other.append((every * ~same[..., None]).sum(1) / (count - 1))
        copied.append(psnr(moment.seen[-1].expand_as(moment.real), moment.real, UINT8_RANGE).double())
        best = every[..., -1] == every[..., -1].amax(1, keepdim=True)
        nearest.append((best & same).sum(1) / best.sum(1))
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
                **{figure: [round(mean[b, t - 1].item(), 6) for t in steps] for figure, mean in means.items()},
            }
            for b, (name, offset) in enumerate(BRANCHES.items())
        },
        "told_apart": round(torch.stack(nearest).double().mean().item(), 6),
        "told_apart_by_chance": round(1 / len(BRANCHES), 6),
    }


def road_moments(image_size: tuple[int, int], context: int, frame_skip: int, seeds: Iterable[int]) -> Iterator[Moment]:
    """One moment for each seed's road: driven there by the world's driver, at speed, then branched `STEPS` ahead."""
    env = RoadEnv(image_size=image_size)
    try:
        for fork in forks(env, lambda seed: Driver(seed).act, seeds, context, frame_skip, _commands, STEPS):
            yield Moment(fork.seen, fork.actions, fork.real)
    finally:
        env.close()


def _commands(command: npt.NDArray[Any]) -> list[Actions]:
    """The driver's command, steered as each of the branches."""
    ways = np.tile(command, (len(BRANCHES), 1))
    ways[:, 0] += list(BRANCHES.values())
    return list(np.clip(ways, ACTION_LOW, ACTION_HIGH))


def branch_sheet(moment: Moment, dreamt: Tensor, hz: float) -> Image:
    """Rows world and dream for each branch, columns the last picture seen and the steps after it."""
    steps = [t for t in _DRAWN if t <= dreamt.shape[1]]
    last = to_images(moment.seen[-1])
    rows, labels = [], []
    for b, name in enumerate(BRANCHES):
        for label, frames in (("world", moment.real[b]), ("dream", dreamt[b])):
            pictures = to_images(frames)
            rows.append([last, *(pictures[t - 1] for t in steps)])
            labels.append(f"{label}, {name}")
    heads = ["last seen", *(f"+{t}  {t / hz:.2f} s" for t in steps)]
    h, w = last.shape[:2]
    return contact_sheet(
        rows, labels, heads, title="One moment, three commands", height=max(48, min(128, 160 * h // w)), group=2
    )


def branch_film(kept: Iterable[tuple[Moment, Tensor]], hz: float, height: int = 224) -> Iterator[Image]:
    """The three branches side by side, the world above, the dream below with the action that it was given."""
    for moment, dreamt in kept:
        seen = to_images(moment.seen)
        real, dream = to_images(moment.real), to_images(dreamt)
        context = len(seen)
        for t in range(context + real.shape[1]):
            ahead = t - context + 1
            state = f"+{ahead} ({ahead / hz:.2f} s)" if ahead > 0 else "context"
            rows = []
            for label, frames in (("world", real), ("dream", dream)):
                pictures = [seen[t] if ahead <= 0 else frames[b, ahead - 1] for b in range(len(BRANCHES))]
                tiles = [enlarge(picture, height) for picture in pictures]
                if label == "dream":
                    commands = moment.actions[:, max(t - 1, 0)]
                    tiles = [overlay_action(tile, action) for tile, action in zip(tiles, commands, strict=True)]
                rows.append(side_by_side(tiles, [f"{label}, {name}   {state}" for name in BRANCHES], height=height))
            yield np.concatenate(rows)
