"""Many environments of one world model as one vector environment, which predicts their frames in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.envs.world_model.env import WorldModelEnv, clip_option, draw_start, spaces_of
from daydrive.envs.world_model.readout import Readout
from daydrive.envs.world_model.rewards import Reward, Termination
from daydrive.envs.world_model.simulation import EnvState, Info, Simulation
from daydrive.errors import UserError

Images = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
StepResult = tuple[Images, npt.NDArray[np.float64], Flags, Flags, dict[str, Any]]


class WorldModelVectorEnv(VectorEnv[Images, npt.NDArray[np.float32], npt.NDArray[Any]]):
    """`num_envs` environments as `WorldModelEnv`, in one batch on the model's device.

    Observations uint8 (N, H, W, 3), actions float32 (N, 4). It behaves as Gymnasium's `SyncVectorEnv` of single
    environments in all three autoreset modes.

    Examples:
        >>> import gymnasium, daydrive.envs
        >>> paths = {"checkpoint": "runs/first", "data_root": "data/processed/road"}
        >>> envs = gymnasium.make_vec("daydrive/Dream-v0", num_envs=4, max_episode_steps=50, **paths)
        >>> images, infos = envs.reset(seed=0)
        >>> images, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())
        >>> images.shape, infos["steps"].tolist()
        ((4, 64, 64, 3), [1, 1, 1, 1])
    """

    def __init__(
        self,
        num_envs: int,
        checkpoint: str | Path | RolloutModel,
        data_root: str | Path | Store,
        readout: str | Path | Readout | None = None,
        reward: Reward | None = None,
        termination: Termination | None = None,
        split: str = "train",
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        """Parameters as for `WorldModelEnv`. max_episode_steps: after which an episode is truncated; None: never.
        autoreset_mode: what happens when an episode ends, see `gymnasium.vector.AutoresetMode`."""
        if num_envs < 1:
            raise UserError(f"num_envs has to be at least 1, not {num_envs}")
        self._simulation = Simulation(
            checkpoint, data_root, readout, reward, termination, split, device, count=num_envs
        )
        self.num_envs, self.render_mode, self._max_steps = num_envs, render_mode, max_episode_steps
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {**WorldModelEnv.metadata, "render_fps": self._simulation.hz, "autoreset_mode": self._mode}
        self.single_observation_space, self.single_action_space = spaces_of(self._simulation.image_size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._randoms = [np_random()[0] for _ in range(num_envs)]
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Images, dict[str, Any]]:
        """Start episodes. seed: of the first environment, the next ones have seed + 1, …; or one per environment.

        options: `reset_mask`, bool (N,), the environments to reset, default: all; `clip`, the number of the clip to
        start from, or one per environment. Raises UserError for other options, numbers or shapes.
        """
        remaining = dict(options or {})
        mask = _checked_mask(remaining.pop("reset_mask", np.ones(self.num_envs, np.bool_)), self.num_envs)
        if not mask.all() and not self._simulation.started:
            raise UserError("the first reset has to be of all environments, without reset_mask")
        clips = _one_each(clip_option(remaining), self.num_envs, "clip")
        if isinstance(seed, int):
            seed = [seed + k for k in range(self.num_envs)]
        for index, each in enumerate(_one_each(seed, self.num_envs, "seed")):
            if mask[index] and each is not None:
                self._randoms[index] = np_random(each)[0]
        self._start(mask, clips)
        return self._simulation.observations, _masked(self._simulation.infos(), mask)

    def step(self, actions: npt.NDArray[np.float32]) -> StepResult:
        """Predict the next frame of every environment.

        Where an episode ended, the next one starts in the same or in the next step, as the autoreset mode says; with
        `DISABLED`, UserError is raised until the environment is reset.
        """
        if self._mode is AutoresetMode.DISABLED and self._ended.any():
            ended = ", ".join(map(str, np.flatnonzero(self._ended)))
            raise UserError(f"reset the environments that have ended, with the option reset_mask: {ended}")
        restarting = self._ended.copy()
        rewards, terminated = self._simulation.step(actions)
        truncated = np.zeros(self.num_envs, np.bool_)
        if self._max_steps is not None:
            truncated = self._simulation.steps >= self._max_steps
        if restarting.any():
            self._start(restarting)
            rewards[restarting], terminated[restarting], truncated[restarting] = 0, False, False
        self._ended = terminated | truncated
        final: dict[str, Any] = {}
        if self._mode is AutoresetMode.SAME_STEP and self._ended.any():
            final = self._final()
            self._start(self._ended)
        infos = _masked(self._simulation.infos(), np.ones(self.num_envs, np.bool_))
        return self._simulation.observations, rewards, terminated, truncated, {**infos, **final}

    def render(self) -> tuple[Images, ...] | None:
        """The current frame of every environment."""
        return tuple(self._simulation.observations) if self.render_mode == "rgb_array" else None

    def get_state(self) -> list[EnvState]:
        """The complete state of every environment; states of single environments and of vectors are interchangeable."""
        return [self._simulation.get_state(index) for index in range(self.num_envs)]

    def set_state(self, states: Sequence[EnvState]) -> None:
        """Continue from states, one per environment, which may be the same one several times.

        Raises UserError for another number of states, or for states of another model or store.
        """
        if len(states) != self.num_envs:
            raise UserError(f"{self.num_envs} environments need as many states, not {len(states)}")
        self._simulation.set_state(range(self.num_envs), states)
        self._ended[:] = False

    def _start(self, mask: Flags, clips: Sequence[object] | None = None) -> None:
        which = np.flatnonzero(mask).tolist()
        chosen = clips or [None] * self.num_envs
        starts = [draw_start(self._randoms[k], self._simulation, chosen[k]) for k in which]
        self._simulation.reset(which, [clip for clip, _ in starts], [seed for _, seed in starts])
        self._ended[mask] = False

    def _final(self) -> dict[str, Any]:
        """Observations and infos of the episodes that ended."""
        observations = np.full(self.num_envs, None, object)
        for index, image in enumerate(self._simulation.observations):
            observations[index] = image if self._ended[index] else None
        infos, ended = _masked(self._simulation.infos(), self._ended), self._ended.copy()
        return {"final_obs": observations, "_final_obs": ended, "final_info": infos, "_final_info": ended.copy()}


def _masked(infos: Info, mask: Flags) -> dict[str, Any]:
    """Infos as Gymnasium's vector environments return them: with a mask of the environments that have each."""
    masked: dict[str, Any] = {}
    for name, values in infos.items():
        values[~mask] = None if values.dtype == object else 0
        masked |= {name: values, f"_{name}": mask.copy()}
    return masked


def _checked_mask(mask: object, count: int) -> Flags:
    if not isinstance(mask, np.ndarray) or mask.shape != (count,) or mask.dtype != np.bool_ or not mask.any():
        raise UserError(f"the option reset_mask has to be a bool array of shape ({count},), with at least one True")
    return mask


def _one_each(value: Any, count: int, name: str) -> list[Any]:
    """One value per environment, from a single one or a sequence."""
    if value is None or np.ndim(value) == 0:
        return [value] * count
    if len(value) != count:
        raise UserError(f"{name}: {count} environments need one value or {count}, not {len(value)}")
    return list(value)
