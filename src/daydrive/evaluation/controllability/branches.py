"""Branches: different actions from one moment, driven by a resettable environment and predicted by the model.

All comparisons with true counterfactual futures use this: the counterfactual suite, the branches of the scorecard, the
steering sweep.
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
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, RolloutFunction
from daydrive.metrics import psnr
from daydrive.types import ACTION_HIGH, ACTION_LOW

Action = npt.NDArray[np.float32]
"""(4,), see `daydrive.types.ACTION_NAMES`."""
Images = npt.NDArray[np.uint8]
Policy = Callable[[dict[str, Any]], Any]
"""`info` of the environment → action."""
ActionChange = Callable[[Action], Action]
"""The driver's command at the moment → the command that a branch holds."""

STEPS = 10
_WARM_UP_STEPS, _MAX_STEPS, _MIN_SPEED = 40, 300, 4.0


def steered_by(offset: float) -> ActionChange:
    """Adds `offset` to the steering (positive to the right), with the pedals unchanged."""
    return lambda command: _with(command, {0: command[0] + offset})


def steered_to(steering: float) -> ActionChange:
    """Sets the steering, with the pedals unchanged."""
    return lambda command: _with(command, {0: steering})


def with_pedals(throttle: float, brake: float) -> ActionChange:
    """Sets throttle and brake, with the steering unchanged."""
    return lambda command: _with(command, {1: throttle, 2: brake})


def unchanged(command: Action) -> Action:
    """The driver's command itself."""
    return _with(command, {})


def _with(command: Action, change: dict[int, float]) -> Action:
    changed = np.array(command, dtype=np.float32)
    for index, value in change.items():
        changed[index] = value
    return np.clip(changed, ACTION_LOW, ACTION_HIGH)


class ResettableEnv(Protocol):
    """A gymnasium environment with daydrive's actions whose state can be saved and restored."""

    def reset(self, *, seed: int | None = None) -> tuple[Images, dict[str, Any]]: ...
    def step(self, action: Action, /) -> tuple[Images, Any, bool, bool, dict[str, Any]]: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any, /) -> None: ...


class BranchSet(NamedTuple):
    """One moment and K branches from it.

    seen: context frames, uint8 (C, 3, H, W). actions: float32 (K, C-1+N, 4), the first C-1 equal. real: the true
    future of each branch, uint8 (K, N, 3, H, W). state: of the environment at the last context frame.
    """

    seen: Tensor
    actions: Tensor
    real: Tensor
    state: Any = None


class BranchRollout(NamedTuple):
    """A model's predictions for a `BranchSet`.

    predicted: uint8 (K, N, 3, H, W). psnr: float64 (K, K, N) in dB, of each prediction against each true future.
    copy_last_psnr: float64 (K, N), of the last context frame against each true future.
    """

    branches: BranchSet
    predicted: Tensor
    psnr: Tensor
    copy_last_psnr: Tensor

    @property
    def own_psnr(self) -> Tensor:
        """PSNR of each prediction against the future of its own actions, (K, N)."""
        return self.psnr.diagonal().T

    @property
    def other_psnr(self) -> Tensor:
        """Mean PSNR of each prediction against the futures of the other actions, (K, N)."""
        count = len(self.psnr)
        others = ~torch.eye(count, dtype=torch.bool)
        return (self.psnr * others[..., None]).sum(1) / (count - 1)

    def nearest(self, among: Sequence[int] | None = None) -> Tensor:
        """(K, K): 1 at the future nearest to each prediction at the last step; ties share the 1 equally.

        among: indices of the branches to consider, by default all.
        """
        last = self.psnr[..., -1]
        if among is not None:
            last = last[list(among)][:, list(among)]
        best = last == last.amax(1, keepdim=True)
        return best.double() / best.sum(1, keepdim=True)


def predict_branches(rollout_fn: RolloutFunction, seen: Tensor, actions: Tensor) -> Tensor:
    """Rolls out context frames (C, 3, H, W) with each of K action sequences (K, C-1+N, 4) → uint8 (K, N, 3, H, W)."""
    return rollout_fn(seen.expand(len(actions), *seen.shape).contiguous(), actions)


def rollout_branches(rollout_fn: RolloutFunction, branches: BranchSet) -> BranchRollout:
    """Predicts each branch and compares the predictions with the true futures."""
    seen, real = branches.seen, branches.real
    predicted = predict_branches(rollout_fn, seen, branches.actions)
    shape = (len(real), *real.shape)
    pairwise = psnr(predicted[:, None].expand(shape), real[None].expand(shape), UINT8_RANGE).double()
    copied = psnr(seen[-1].expand_as(real), real, UINT8_RANGE).double()
    return BranchRollout(branches, predicted, pairwise, copied)


def road_branches(
    image_size: tuple[int, int],
    context: int,
    seeds: Iterable[int],
    changes: Sequence[ActionChange],
    *,
    frame_skip: int = 1,
    steps: int = STEPS,
) -> Iterator[BranchSet]:
    """Branches in the road world, driven to the moment by its own driver. UserError for an unsupported image size."""
    env = RoadEnv(image_size)
    try:
        yield from drive_branches(
            env, lambda seed: Driver(seed).act, seeds, context, changes, frame_skip=frame_skip, steps=steps
        )
    finally:
        env.close()


def drive_branches(
    env: ResettableEnv,
    driver: Callable[[int], Policy],
    seeds: Iterable[int],
    context: int,
    changes: Sequence[ActionChange],
    *,
    frame_skip: int = 1,
    steps: int = STEPS,
) -> Iterator[BranchSet]:
    """Yields the branches of one moment for each seed.

    `driver(seed)` drives to the moment; from there the environment is driven `steps` steps with each of the changes of
    its command, held constant. If `info` has a `speed`, the moment is one at which the car moves. Seeds whose episode
    ends before the context is complete are skipped.
    """
    needed = (context - 1) * frame_skip
    for seed in seeds:
        image, info = env.reset(seed=seed)
        policy = driver(seed)
        images, driven = [image], list[Action]()
        slow = info.get("speed", _MIN_SPEED) < _MIN_SPEED
        while len(driven) < max(_WARM_UP_STEPS, needed) or (slow and len(driven) < _MAX_STEPS):
            action = np.asarray(policy(info), dtype=np.float32)
            image, _, terminated, _, info = env.step(action)
            if terminated:
                break
            slow = info.get("speed", _MIN_SPEED) < _MIN_SPEED
            images.append(image)
            driven.append(action)
            del images[: -needed - 1]
        if len(images) <= needed:
            continue
        past = np.stack(driven[-needed:]) if needed else np.empty((0, 4), np.float32)
        state, command = env.get_state(), np.asarray(policy(info), dtype=np.float32)
        futures = [np.tile(change(command), (steps * frame_skip, 1)) for change in changes]
        actions = [combine(np.concatenate((past, future))[None], frame_skip)[0] for future in futures]
        real = [_drive(env, state, future)[frame_skip - 1 :: frame_skip] for future in futures]
        yield BranchSet(
            _frames(np.stack(images[::frame_skip])),
            torch.from_numpy(np.stack(actions)),
            _frames(np.stack(real)),
            state,
        )


def _drive(env: ResettableEnv, state: Any, actions: Action) -> Images:
    env.set_state(state)
    return np.stack([env.step(action)[0] for action in actions])


def _frames(images: Images) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3)))
