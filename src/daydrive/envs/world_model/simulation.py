"""What a single environment and a vector of them have in common: B simulations of one world model in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daydrive.checkpoint import RolloutModel, check_fit, load
from daydrive.data.store.store import Store
from daydrive.envs.world_model.moments import Moments
from daydrive.envs.world_model.readout import FRAMES, Readout
from daydrive.envs.world_model.rewards import (
    DrivingReward,
    LaneDeparture,
    Reward,
    Termination,
    Transition,
    never,
    zero_reward,
)
from daydrive.envs.world_model.rollouts import Rollouts, RolloutState
from daydrive.errors import UserError
from daydrive.types import ACTION_HIGH, ACTION_LOW, ACTION_NAMES

Info = dict[str, npt.NDArray[Any]]


class EnvState(NamedTuple):
    """The complete state of a simulation, on the CPU, independent of later steps.

    frames: uint8 (2, 3, H, W), the newest last; action: float32 (4,), the last one; clip: the number of the clip that
    the episode started with; steps: since then.
    """

    rollout: RolloutState
    frames: Tensor
    action: Tensor
    clip: int
    steps: int


class Simulation:
    """`count` simulations of one model. All of them have to be reset before the first step."""

    def __init__(
        self,
        checkpoint: str | Path | RolloutModel,
        data_root: str | Path | Store,
        readout: str | Path | Readout | None,
        reward: Reward | None,
        termination: Termination | None,
        split: str,
        device: torch.device | str,
        count: int,
    ) -> None:
        """Parameters as for `WorldModelEnv`. Raises UserError if model, store and readout do not fit."""
        self._store = data_root if isinstance(data_root, Store) else Store.open(data_root)
        loaded = checkpoint if isinstance(checkpoint, RolloutModel) else load(Path(checkpoint), device)
        check_fit(loaded, self._store)
        self._rollouts = Rollouts(loaded.model, count)
        self._context = loaded.context_frames
        self.moments = Moments(self._store, split, max(self._context, FRAMES), loaded.frame_skip)
        self.hz, self.image_size = self.moments.hz, self._store.image_size
        device = self._rollouts.device
        self._readout = None
        if readout is not None:
            self._readout = readout.to(device) if isinstance(readout, Readout) else Readout.load(readout, device)
            self._readout.check(self.hz, self.image_size)
        names = () if self._readout is None else self._readout.names
        self._reward = reward or (DrivingReward.of_readings(names) if names else zero_reward)
        self._termination = termination or (LaneDeparture() if "lane_offset" in names else never)
        height, width = self.image_size
        self._frames = torch.zeros(count, FRAMES, 3, height, width, dtype=torch.uint8, device=device)
        self._actions = torch.zeros(count, len(ACTION_NAMES), device=device)
        self._steps = np.zeros(count, np.int64)
        self._starts: Info = {
            "clip": self._steps.copy(),
            "drive": np.full(count, "", object),
            "frame": self._steps.copy(),
        }
        self._readings: dict[str, Tensor] = {}

    @property
    def observations(self) -> npt.NDArray[np.uint8]:
        """(count, H, W, 3), the current frames, copied."""
        frames = self._frames[:, -1].permute(0, 2, 3, 1)
        observed: npt.NDArray[np.uint8] = frames.clone(memory_format=torch.contiguous_format).cpu().numpy()
        return observed

    @property
    def started(self) -> bool:
        return self._rollouts.started

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """(count,), steps since the last reset."""
        return self._steps

    def reset(self, which: Sequence[int], clips: Sequence[int], seeds: Sequence[int]) -> None:
        """Start simulations anew. which: their indices, ascending; clips: numbers of the clips to start from; seeds: of
        the random numbers of models that sample."""
        recording = self.moments.read(clips)
        images, actions = recording.images.to(self._rollouts.device), recording.actions.to(self._rollouts.device)
        self._rollouts.start(
            which, images[:, -self._context :], actions[:, actions.shape[1] - self._context + 1 :], seeds
        )
        self._assign(which, clips, images[:, -FRAMES:], actions[:, -1])
        self._steps[which] = 0

    @torch.no_grad()
    def step(self, actions: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Actions (count, 4) → rewards (count,) and terminations (count,).

        Values outside of the action space are clipped and the gear is rounded, as in the road world. Raises UserError
        for actions of another shape or that are not finite, and before the first reset.
        """
        if not self._rollouts.started:
            raise UserError("the environment has to be reset before its first step")
        new = torch.from_numpy(_checked_actions(actions, len(self._steps))).to(self._rollouts.device)
        frame = self._rollouts.step(new)
        self._frames = torch.stack([self._frames[:, -1], frame], dim=1)
        self._steps += 1
        self._read()
        transition = Transition(self._frames, torch.stack([self._actions, new], dim=1), self._readings, self.hz)
        self._actions = new
        rewards = _checked_result(self._reward(transition), len(new), "reward").double().cpu().numpy()
        terminated = _checked_result(self._termination(transition), len(new), "termination").bool().cpu().numpy()
        return rewards, terminated

    def infos(self) -> Info:
        """(count,) each: `clip`, the number of the clip that the episode started with, `drive` and `frame`, where it is
        in the store, `steps` since then, and the readings of the current frame."""
        readings = torch.stack(list(self._readings.values())).double().cpu().numpy() if self._readings else ()
        starts = {name: values.copy() for name, values in self._starts.items()}
        return {**starts, "steps": self._steps.copy(), **dict(zip(self._readings, readings, strict=True))}

    def get_state(self, index: int) -> EnvState:
        return EnvState(
            self._rollouts.get_state(index),
            self._frames[index].cpu().clone(),
            self._actions[index].cpu().clone(),
            int(self._starts["clip"][index]),
            int(self._steps[index]),
        )

    def set_state(self, which: Sequence[int], states: Sequence[EnvState]) -> None:
        """Continue from states of `get_state`. which: indices, ascending. Raises UserError for anything else."""
        try:
            if not all(isinstance(state, EnvState) for state in states):
                raise TypeError(f"of type {type(states[0]).__name__}")
            if not self._rollouts.started:
                every = range(len(self._steps))
                self.reset(every, [0] * len(every), [0] * len(every))
            clips = [self.moments.check(state.clip) for state in states]
            frames, actions = torch.stack([s.frames for s in states]), torch.stack([s.action for s in states])
            if frames.shape[1:] != self._frames.shape[1:]:
                raise ValueError(f"images of {tuple(frames.shape[-2:])} instead of {self.image_size}")
            self._rollouts.set_state(which, [state.rollout for state in states])
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"not a state of this environment ({error}); pass the result of get_state() of one with the same model"
            ) from None
        self._assign(which, clips, frames.to(self._frames.device), actions.to(self._frames.device))
        self._steps[which] = [state.steps for state in states]

    def _assign(self, which: Sequence[int], clips: Sequence[int], frames: Tensor, actions: Tensor) -> None:
        where = torch.as_tensor(which, device=self._frames.device)
        self._frames = self._frames.index_copy(0, where, frames)
        self._actions = self._actions.index_copy(0, where, actions)
        for index, clip in zip(which, clips, strict=True):
            drive, frame = self.moments.locate(clip)
            for name, value in (("clip", clip), ("drive", drive), ("frame", frame)):
                self._starts[name][index] = value
        self._read()

    @torch.no_grad()
    def _read(self) -> None:
        self._readings = {} if self._readout is None else self._readout(self._frames)


def _checked_actions(actions: npt.ArrayLike, count: int) -> npt.NDArray[np.float32]:
    try:
        values = np.asarray(actions, np.float32)
    except (TypeError, ValueError):
        values = np.zeros(0, np.float32)
    if values.shape != (count, len(ACTION_NAMES)) or not np.isfinite(values).all():
        expected = "four finite numbers" if count == 1 else f"{count} times four finite numbers"
        raise UserError(f"actions have to be {expected} ({', '.join(ACTION_NAMES)}), not {actions!r}")
    values = np.clip(values, ACTION_LOW, ACTION_HIGH)
    values[:, 3] = np.rint(values[:, 3])
    return values


def _checked_result(result: object, count: int, what: str) -> Tensor:
    if not isinstance(result, Tensor) or result.shape != (count,):
        given = f"{tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise UserError(f"the {what} function returned {given} instead of a tensor of shape ({count},)")
    return result
