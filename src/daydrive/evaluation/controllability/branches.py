"""What really would have happened: one moment of a world that can be driven again, five commands, five futures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.data.sampling.clips import combine
from daydrive.envs.road import Driver, RoadEnv
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, Dream
from daydrive.metrics import psnr
from daydrive.types import ACTION_HIGH, ACTION_LOW

Actions = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]

BRANCHES = {
    "straight on": "the driver's command, held",
    "left": "steering 0.5 further to the left",
    "right": "steering 0.5 further to the right",
    "brake": "no throttle, brake at 0.7",
    "accelerate": "full throttle, no brake",
}
STEERING, PACE = (0, 1, 2), (0, 3, 4)
"""Which of the branches differ by the wheel, and which by the pedals."""
STEPS = 10
FIRST_SEED = 2_000_003
"""Of the worlds: training data is made from small seeds."""

_WARM_UP, _PATIENCE, _MIN_SPEED = 40, 300, 4.0


class Drivable(Protocol):
    """A gymnasium environment with daydrive's action that can return to a moment."""

    def reset(self, *, seed: int | None = None) -> tuple[Images, dict[str, Any]]: ...
    def step(self, action: Actions, /) -> tuple[Images, Any, bool, bool, dict[str, Any]]: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any, /) -> None: ...


class Fork(NamedTuple):
    """seen: uint8 (C, 3, H, W). actions: float32 (K, C-1+N, 4), the first C-1 alike. real: uint8 (K, N, 3, H, W), the
    world's own futures of K branches. state: the world's, at the last frame seen."""

    seen: Tensor
    actions: Tensor
    real: Tensor
    state: Any


Act = Callable[[dict[str, Any]], Any]

Commands = Callable[[npt.NDArray[Any]], list[Actions]]
"""From the driver's command to those that are held, one for each branch."""


def road_forks(
    image_size: tuple[int, int], context: int, frame_skip: int = 1, count: int = 16, seed: int = 0
) -> Iterator[Fork]:
    """Of the road world, driven by its own driver on roads that no data set has."""
    env = RoadEnv(image_size)
    seeds = [FIRST_SEED + 1000 * seed + i for i in range(count)]
    try:
        yield from forks(env, lambda number: Driver(number).act, seeds, context, frame_skip)
    finally:
        env.close()


def forks(
    env: Drivable,
    driver: Callable[[int], Act],
    seeds: Iterable[int],
    context: int,
    frame_skip: int = 1,
    commands: Commands | None = None,
    steps: int = STEPS,
) -> Iterator[Fork]:
    """One moment of each seed's world: driven there by `driver(seed)`, which acts on `info`, then driven on for `steps`
    with each of the `commands`, by default those of the `BRANCHES`. Where `info` has a speed, the moment is one at
    speed."""
    branching = commands or _commands
    needed = (context - 1) * frame_skip
    for seed in seeds:
        picture, info = env.reset(seed=seed)
        act = driver(seed)
        pictures, driven = [picture], list[Actions]()
        slow = info.get("speed", _MIN_SPEED) < _MIN_SPEED
        while len(driven) < max(_WARM_UP, needed) or (slow and len(driven) < _PATIENCE):
            action = np.asarray(act(info), dtype=np.float32)
            picture, _, over, _, info = env.step(action)
            if over:
                break
            slow = info.get("speed", _MIN_SPEED) < _MIN_SPEED
            pictures.append(picture)
            driven.append(action)
            del pictures[: -needed - 1]
        if len(pictures) <= needed:
            continue
        past = np.stack(driven[-needed:]) if needed else np.empty((0, 4), np.float32)
        state = env.get_state()
        futures = [np.tile(command, (steps * frame_skip, 1)) for command in branching(np.asarray(act(info)))]
        actions = [combine(np.concatenate((past, future))[None], frame_skip)[0] for future in futures]
        real = [_drive(env, state, future)[frame_skip - 1 :: frame_skip] for future in futures]
        yield Fork(
            _frames(np.stack(pictures[::frame_skip])),
            torch.from_numpy(np.stack(actions)),
            _frames(np.stack(real)),
            state,
        )


def _commands(command: npt.NDArray[Any]) -> list[Actions]:
    """Of the branches, in their order."""
    changes: tuple[dict[int, float], ...] = (
        {},
        {0: command[0] - 0.5},
        {0: command[0] + 0.5},
        {1: 0.0, 2: 0.7},
        {1: 1.0, 2: 0.0},
    )
    found = []
    for change in changes:
        changed = np.array(command, dtype=np.float32)
        for place, value in change.items():
            changed[place] = value
        found.append(np.clip(changed, ACTION_LOW, ACTION_HIGH))
    return found


def _drive(env: Drivable, state: Any, actions: Actions) -> Images:
    env.set_state(state)
    return np.stack([env.step(action)[0] for action in actions])


def _frames(pictures: Images) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, -3)))


def branch_figures(dream: Dream, moments: Iterable[Fork]) -> dict[str, Any] | None:
    """A dream beside the world's own futures, mean over the moments, one of which is held at a time; None without any.

    `branches`: for each its `psnr` in dB at 1, 5 and 10 steps, `copy_last_psnr`, and `nearest`: to which branch of the
    world, at the last step, the dream was nearest, as shares in the branches' order. `steering_told_apart`,
    `pace_told_apart`: share nearest to their own branch among the three that differ by the wheel, or by the pedals,
    with ties shared; chance is 1/3.
    """
    own, copied, nearest, told = [], [], [], []
    for fork in moments:
        count = len(fork.actions)
        dreamt = dream(fork.seen.expand(count, *fork.seen.shape), fork.actions)
        shape = (count, *dreamt.shape)
        every = psnr(dreamt[:, None].expand(shape), fork.real[None].expand(shape), UINT8_RANGE).double()
        own.append(every.diagonal().T)
        copied.append(psnr(fork.seen[-1].expand_as(fork.real), fork.real, UINT8_RANGE).double())
        last = every[..., -1]
        nearest.append(_shares(last))
        told.append(torch.stack([_shares(last[list(g)][:, list(g)]).diagonal().mean() for g in (STEERING, PACE)]))
    if not own:
        return None
    steps = [t for t in (1, 5, 10) if t <= own[0].shape[1]]
    mean, floor, matrix = (torch.stack(values).mean(0) for values in (own, copied, nearest))
    steering, pace = torch.stack(told).mean(0).tolist()
    return {
        "moments": len(own),
        "steps": steps,
        "branches": {
            name: {
                "what": what,
                "psnr": [round(mean[b, t - 1].item(), 4) for t in steps],
                "copy_last_psnr": [round(floor[b, t - 1].item(), 4) for t in steps],
                "nearest": [round(share, 4) for share in matrix[b].tolist()],
            }
            for b, (name, what) in enumerate(BRANCHES.items())
        },
        "steering_told_apart": round(steering, 4),
        "pace_told_apart": round(pace, 4),
        "told_apart_by_chance": round(1 / len(STEERING), 4),
    }


def _shares(figures: Tensor) -> Tensor:
    """(dreams, worlds) in dB → 1 at the nearest world of each dream, shared among equals."""
    best = figures == figures.amax(1, keepdim=True)
    return best.double() / best.sum(1, keepdim=True)
