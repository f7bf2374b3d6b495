"""A world model as a Gymnasium environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.envs.world_model.readout import Readout
from daydrive.envs.world_model.rewards import Reward, Termination
from daydrive.envs.world_model.simulation import EnvState, Simulation
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_HIGH, ACTION_LOW

LARGEST_SEED = 2**31
DEFAULT_HZ = 10


class WorldModelEnv(gym.Env[np.ndarray, np.ndarray]):
    """Episodes start from recorded moments of a store and continue in the predictions of a model.

    Action and observation space are those of `daydrive/Road-v0`: Box float32 (4,) = steering [-1, 1] positive to the
    right, throttle [0, 1], brake [0, 1], gear in {-1, 0, 1} (rounded), held until the next frame; Box uint8 (H, W, 3),
    RGB. Time and memory of a step are constant. The same seed gives the same episode.

    `info`: `clip`, `drive` and `frame`, where the episode started; `steps` since then; and the readings of the frame.

    Examples:
        >>> import gymnasium, daydrive.envs
        >>> env = gymnasium.make("daydrive/Dream-v0", checkpoint="runs/first", data_root="data/processed/road")
        >>> image, info = env.reset(seed=0, options={"clip": 3})
        >>> image, reward, terminated, truncated, info = env.step(env.action_space.sample())
        >>> image.shape, info["clip"], info["steps"]
        ((64, 64, 3), 3, 1)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": DEFAULT_HZ}  # noqa: RUF012

    def __init__(
        self,
        checkpoint: str | Path | RolloutModel,
        data_root: str | Path | Store,
        readout: str | Path | Readout | None = None,
        reward: Reward | None = None,
        termination: Termination | None = None,
        split: str = "train",
        device: torch.device | str = "cpu",
        render_mode: str | None = None,
    ) -> None:
        """checkpoint: of the model, a path or already loaded; data_root: a store with images of the model's size.

        readout: a file of `daydrive train-readout`, whose values become part of `info`, and which the built-in rewards
        and terminations need. reward, termination: functions of a `Transition`; default: `DrivingReward` and
        `LaneDeparture` as far as the readout has their values, else 0 and never. split: of the clips that episodes
        start from. device: of the model, where a path is given.

        Raises UserError if the model cannot be loaded or does not fit the store or the readout.
        """
        self._simulation = Simulation(checkpoint, data_root, readout, reward, termination, split, device, count=1)
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self._simulation.hz}
        self.observation_space, self.action_space = spaces_of(self._simulation.image_size)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode. options: {'clip': number}, the clip of `daydrive.Clips(store, split, context frames)` whose
        last frame it starts from; default: a random one. Raises UserError for another option or number."""
        super().reset(seed=seed)
        clip = clip_option(options)
        clip, model_seed = draw_start(self.np_random, self._simulation, clip)
        self._simulation.reset([0], [clip], [model_seed])
        return self._simulation.observations[0], self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Predict the next frame. Values outside of the action space are clipped."""
        (reward,), (terminated,) = self._simulation.step(np.asarray(action)[None])
        return self._simulation.observations[0], float(reward), bool(terminated), False, self._info()

    def render(self) -> np.ndarray | None:
        return self._simulation.observations[0] if self.render_mode == "rgb_array" else None

    def get_state(self) -> EnvState:
        """The complete state of the episode, for `set_state` of this or another environment of the same model."""
        return self._simulation.get_state(0)

    def set_state(self, state: EnvState) -> None:
        """Continue an episode from a state. The same actions then give the same frames, to the byte.

        Raises UserError for a state of another model or store.
        """
        self._simulation.set_state([0], [state])

    def _info(self) -> dict[str, Any]:
        return {
            name: values[0] if values.dtype == object else values[0].item()
            for name, values in self._simulation.infos().items()
        }


def spaces_of(image_size: tuple[int, int]) -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """Observation and action space for images of (H, W)."""
    return gym.spaces.Box(0, 255, (*image_size, 3), np.uint8), gym.spaces.Box(ACTION_LOW, ACTION_HIGH, dtype=np.float32)


def clip_option(options: dict[str, Any] | None) -> Any:
    """The option 'clip' of a reset, or None. Raises UserError for any other option."""
    unknown = set(options or ()) - {"clip"}
    if unknown:
        name = min(unknown, key=str)
        raise UserError(f"unknown reset option {name!r}{did_you_mean(str(name), ['clip'])}")
    return (options or {}).get("clip")


def draw_start(random: np.random.Generator, simulation: Simulation, clip: object) -> tuple[int, int]:
    """The number of the clip, drawn if it is None, and the seed of the model, which does not depend on the clip."""
    seed, drawn = int(random.integers(LARGEST_SEED)), int(random.integers(len(simulation.moments)))
    return drawn if clip is None else simulation.moments.check(clip), seed
