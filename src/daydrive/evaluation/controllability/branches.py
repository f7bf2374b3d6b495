"""One moment driven on with several actions, by a world that can return to it and by the model.

Everything that compares a model with what really would have happened is built on this: the counterfactual, the
scorecard's branches, the steering sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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

Action = npt.NDArray[np.float32]
"""(4,), see `daydrive.types.ACTION_NAMES`."""
Images = npt.NDArray[np.uint8]
Act = Callable[[dict[str, Any]], Any]
"""A driver: `info` of the world → action."""
Change = Callable[[Action], Action]
"""From the driver's command at the moment to the one that a branch holds."""

STEPS = 10
_WARM_UP, _MOST_STEPS, _MIN_SPEED = 40, 300, 4.0


def steered_by(offset: float) -> Change:
    """Further to the right by so much, the pedals as they were."""
    return lambda command: _with(command, {0: command[0] + offset})


def steered_to(steering: float) -> Change:
    """The wheel at that angle, the pedals as they were."""
    return lambda command: _with(command, {0: steering})


def with_pedals(throttle: float, brake: float) -> Change:
    """The wheel as it was."""
    return lambda command: _with(command, {1: throttle, 2: brake})


def held(command: Action) -> Action:
    """The driver's command, unchanged."""
    return _with(command, {})


def _with(command: Action, change: dict[int, float]) -> Action:
    changed = np.array(command, dtype=np.float32)
    for index, value in change.items():
        changed[index] = value
    return np.clip(changed, ACTION_LOW, ACTION_HIGH)


class Drivable(Protocol):
    """A gymnasium environment with daydrive's action that can return to a moment."""

    def reset(self, *, seed: int | None = None) -> tuple[Images, dict[str, Any]]: ...
    def step(self, action: Action, /) -> tuple[Images, Any, bool, bool, dict[str, Any]]: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any, /) -> None: ...


class BranchSet(NamedTuple):
    """One moment and K ways to drive on.

    seen: uint8 (C, 3, H, W). actions: float32 (K, C-1+N, 4), the first C-1 alike. real: uint8 (K, N, 3, H, W), the
    world's own futures. state: the world's, at the last frame seen.
    """

    seen: Tensor
    actions: Tensor
    real: Tensor
    state: Any = None


class BranchRollout(NamedTuple):
    """What a model makes of a `BranchSet`.

    predicted: uint8 (K, N, 3, H, W). psnr: float64 (K, K, N) in dB, each prediction against each of the world's
    futures. copy_last_psnr: float64 (K, N), the last frame seen against each future.
    """

    branches: BranchSet
    predicted: Tensor
    psnr: Tensor
    copy_last_psnr: Tensor

    @property
    def own_psnr(self) -> Tensor:
        """Each prediction against the future of its own actions, (K, N)."""
        return self.psnr.diagonal().T

    @property
    def other_psnr(self) -> Tensor:
        """Each prediction against the futures of the other actions, mean over these, (K, N)."""
        count = len(self.psnr)
        others = ~torch.eye(count, dtype=torch.bool)
        return (self.psnr * others[..., None]).sum(1) / (count - 1)

    def nearest(self, among: Sequence[int] | None = None) -> Tensor:
        """(K, K): 1 at the future that each prediction is nearest to at the last step, shared among equals.

        among: indices of the branches that count, by default all.
        """
        last = self.psnr[..., -1]
        if among is not None:
            last = last[list(among)][:, list(among)]
        best = last == last.amax(1, keepdim=True)
        return best.double() / best.sum(1, keepdim=True)


def predict_branches(dream: Dream, seen: Tensor, actions: Tensor) -> Tensor:
    """seen (C, 3, H, W) driven on with each of the actions (K, C-1+N, 4) → uint8 (K, N, 3, H, W)."""
    return dream(seen.expand(len(actions), *seen.shape).contiguous(), actions)


def roll_out(dream: Dream, branches: BranchSet) -> BranchRollout:
    """The model's prediction of each branch, beside the world's own futures."""
    seen, real = branches.seen, branches.real
    predicted = predict_branches(dream, seen, branches.actions)
    shape = (len(real), *real.shape)
    every = psnr(predicted[:, None].expand(shape), real[None].expand(shape), UINT8_RANGE).double()
    copied = psnr(seen[-1].expand_as(real), real, UINT8_RANGE).double()
    return BranchRollout(branches, predicted, every, copied)


def road_branches(
    image_size: tuple[int, int],
    context: int,
    seeds: Iterable[int],
    changes: Sequence[Change],
    *,
    frame_skip: int = 1,
    steps: int = STEPS,
) -> Iterator[BranchSet]:
    """Of the road world, driven to the moment by its own driver. UserError for a size it isn't drawn in."""
    env = RoadEnv(image_size)
    try:
        yield from drive_branches(
            env, lambda seed: Driver(seed).act, seeds, context, changes, frame_skip=frame_skip, steps=steps
        )
    finally:
        env.close()


def drive_branches(
    env: Drivable,
    driver: Callable[[int], Act],
    seeds: Iterable[int],
    context: int,
    changes: Sequence[Change],
    *,
    frame_skip: int = 1,
    steps: int = STEPS,
) -> Iterator[BranchSet]:
    """One moment of each seed's world: driven there by `driver(seed)`, then driven on for `steps` with each change of
    its command. Where `info` has a speed, the moment is one at speed."""
    needed = (context - 1) * frame_skip
    for seed in seeds:
        image, info = env.reset(seed=seed)
        act = driver(seed)
        images, driven = [image], list[Action]()
        slow = info.get("speed", _MIN_SPEED) < _MIN_SPEED
        while len(driven) < max(_WARM_UP, needed) or (slow and len(driven) < _MOST_STEPS):
            action = np.asarray(act(info), dtype=np.float32)
            image, _, over, _, info = env.step(action)
            if over:
                break
            slow = info.get("speed", _MIN_SPEED) < _MIN_SPEED
            images.append(image)
            driven.append(action)
            del images[: -needed - 1]
        if len(images) <= needed:
            continue
        past = np.stack(driven[-needed:]) if needed else np.empty((0, 4), np.float32)
        state, command = env.get_state(), np.asarray(act(info), dtype=np.float32)
        futures = [np.tile(change(command), (steps * frame_skip, 1)) for change in changes]
        actions = [combine(np.concatenate((past, future))[None], frame_skip)[0] for future in futures]
        real = [_drive(env, state, future)[frame_skip - 1 :: frame_skip] for future in futures]
        yield BranchSet(
            _frames(np.stack(images[::frame_skip])),
            torch.from_numpy(np.stack(actions)),
            _frames(np.stack(real)),
            state,
        )


def _drive(env: Drivable, state: Any, actions: Action) -> Images:
    env.set_state(state)
    return np.stack([env.step(action)[0] for action in actions])


def _frames(images: Images) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3)))
