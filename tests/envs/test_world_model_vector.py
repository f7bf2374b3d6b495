"""The native vector environment is the same as Gymnasium's vector of single environments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.envs.world_model import Readout, Transition, WorldModelEnv, WorldModelVectorEnv
from daydrive.errors import UserError
from helpers.architectures import ARCHITECTURES, built, rollout_model

COUNT, LIMIT = 3, 5


def reward(transition: Transition) -> Tensor:
    return transition.frames[:, 1].float().mean((1, 2, 3)) + transition.reading("speed") + transition.actions[:, 1, 0]


def terminates_on_full_brake(transition: Transition) -> Tensor:
    return transition.actions[:, 1, 2] > 0.9


def actions(steps: int) -> np.ndarray:
    """(steps, COUNT, 4), with a full brake in every seventh or so."""
    random = np.random.default_rng(3)
    taken = random.uniform([-1, 0, 0, 1], [1, 1, 0.8, 1], (steps, COUNT, 4)).astype(np.float32)
    taken[random.random((steps, COUNT)) < 0.15, 2] = 1
    return taken


def both(
    model: RolloutModel, store: Store, readout: Readout, mode: AutoresetMode
) -> tuple[SyncVectorEnv, WorldModelVectorEnv]:
    settings = {
        "checkpoint": model, "data_root": store, "readout": readout, "reward": reward,
        "termination": terminates_on_full_brake, "max_episode_steps": LIMIT,
    }  # fmt: skip
    make: Callable[[], gym.Env[Any, Any]] = lambda: gym.make("daydrive/Dream-v0", **settings)  # noqa: E731
    single = SyncVectorEnv([make] * COUNT, autoreset_mode=mode)
    return single, WorldModelVectorEnv(COUNT, autoreset_mode=mode, render_mode="rgb_array", **settings)


def same(expected: Any, found: Any, where: str = "") -> None:
    """Equal structure, dtypes and values, except for rounding: models compute a batch with other kernels."""
    if isinstance(expected, dict):
        assert expected.keys() == found.keys(), where
        for key, value in expected.items():
            same(value, found[key], f"{where}.{key}")
    elif isinstance(expected, tuple) or (isinstance(expected, np.ndarray) and expected.dtype == object):
        assert type(found) is type(expected), where
        for k, (one, other) in enumerate(zip(expected, found, strict=True)):
            same(one, other, f"{where}[{k}]")
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), where
        tolerance = {"u": 1, "f": 0.05}.get(expected.dtype.kind, 0)
        difference = np.abs(expected.astype(float) - found.astype(float))
        assert difference.max() <= tolerance and (difference > 1e-3).mean() < 0.02, (where, difference.max())
    else:
        assert expected == found, where


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_same_as_single_environments_with_autoreset(
    architecture: str, mode: AutoresetMode, opened_store: Store, readout: Readout
) -> None:
    single, vector = both(rollout_model(architecture), opened_store, readout, mode)
    assert vector.metadata["autoreset_mode"] is mode
    assert (vector.observation_space, vector.action_space) == (single.observation_space, single.action_space)
    same(single.reset(seed=7), vector.reset(seed=7))
    endings = set()
    for taken in actions(14):
        found = vector.step(taken)
        same(single.step(taken), found)
        assert found[0] in vector.observation_space
        endings |= {kind for kind, flags in (("terminated", found[2]), ("truncated", found[3])) if flags.any()}
        assert np.array_equal(np.stack(vector.render() or ()), found[0])
    assert endings == {"terminated", "truncated"}
    same(single.reset(options={"clip": 5}), vector.reset(options={"clip": 5}))
    same(single.reset(seed=[4, None, 6]), vector.reset(seed=[4, None, 6]))


def test_same_as_single_environments_without_autoreset(
    world_model: RolloutModel, opened_store: Store, readout: Readout
) -> None:
    single, vector = both(world_model, opened_store, readout, AutoresetMode.DISABLED)
    with pytest.raises(UserError, match="the first reset has to be of all environments"):
        vector.reset(options={"reset_mask": np.array([True, False, False])})
    same(single.reset(seed=7), vector.reset(seed=7))
    resets = 0
    for taken in actions(14):
        found = vector.step(taken)
        same(single.step(taken), found)
        ended = found[2] | found[3]
        if ended.any():
            with pytest.raises(
                UserError, match=f"reset the environments that have ended.*: {np.flatnonzero(ended)[0]}"
            ):
                vector.step(taken)
            resets += int(not ended.all())
            same(single.reset(options={"reset_mask": ended}), vector.reset(options={"reset_mask": ended}))
    assert resets > 1


def test_one_clip_per_environment_and_states_like_those_of_single_environments(
    world_model: RolloutModel, opened_store: Store
) -> None:
    vector = WorldModelVectorEnv(COUNT, world_model, opened_store)
    single = WorldModelEnv(world_model, opened_store)
    images, infos = vector.reset(seed=1, options={"clip": [4, 0, 9]})
    assert infos["clip"].tolist() == [4, 0, 9]
    assert np.array_equal(images[2], single.reset(options={"clip": 9})[0])
    first, *rest = actions(6)
    vector.step(first)
    states = vector.get_state()
    frames = [vector.step(taken)[0] for taken in rest]
    vector.reset(seed=2)
    vector.set_state(states)
    assert all(np.array_equal(vector.step(taken)[0], frame) for taken, frame in zip(rest, frames, strict=True))
    single.set_state(states[1])
    same(np.stack([frame[1] for frame in frames]), np.stack([single.step(taken[1])[0] for taken in rest]))
    vector.set_state([single.get_state()] * COUNT)
    images, *_, infos = vector.step(np.repeat(first[:1], COUNT, 0))
    assert infos["steps"].tolist() == [7] * COUNT
    same(images[0], images[2])


def test_made_by_gymnasium(trained: Path, road_store: Path) -> None:
    settings = {"checkpoint": trained, "data_root": road_store, "autoreset_mode": "SameStep"}
    vector = gym.make_vec("daydrive/Dream-v0", num_envs=2, max_episode_steps=2, **settings)
    assert isinstance(vector, WorldModelVectorEnv) and vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    vector.reset(seed=0)
    *_, truncated, infos = [vector.step(vector.action_space.sample()) for _ in range(2)][-1]
    assert truncated.all() and infos["steps"].tolist() == [0, 0] and infos["final_info"]["steps"].tolist() == [2, 2]


def test_memory_stays_flat_over_a_thousand_resets(world_model: RolloutModel, opened_store: Store) -> None:
    vector = WorldModelVectorEnv(10, world_model, opened_store, max_episode_steps=1, autoreset_mode="SameStep")
    vector.reset(seed=0)
    process, sizes = psutil.Process(), []
    for count in range(100):
        vector.step(vector.action_space.sample())
        if count % 10 == 9:
            sizes.append(process.memory_info().rss)
    assert sizes[-1] - min(sizes[2:4]) < 8 * 2**20, sizes


def test_models_that_share_random_numbers_between_clips_are_refused(opened_store: Store) -> None:
    class Noisy(type(built("texture"))):  # type: ignore[misc]
        def step(self, state: Any, action: Tensor, generator: torch.Generator | None = None) -> tuple[Any, Tensor]:
            state, frame = super().step(state, action, generator)
            return state, frame + 0.1 * torch.randn(1, generator=generator)

    model = rollout_model("texture")
    model.model.__class__ = Noisy
    vector = WorldModelVectorEnv(2, model, opened_store)
    vector.reset(seed=0)
    with pytest.raises(UserError, match="Noisy draws the same random numbers for all clips"):
        vector.step(actions(1)[0, :2])
    single = WorldModelEnv(model, opened_store)
    single.reset(seed=0)
    single.step(actions(1)[0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": [1, 2]}, "clip: 3 environments need one value or 3, not 2"),
        ({"clip": [1, 2, 99]}, "there is no clip 99"),
        ({"reset_mask": [True, False, True]}, r"reset_mask has to be a bool array of shape \(3,\)"),
        ({"reset_mask": np.zeros(3, bool)}, "at least one True"),
        ({"reset_mask": np.ones(2, bool)}, "bool array of shape"),
        ({"mask": 1}, "unknown reset option 'mask'"),
    ],
)
def test_invalid_reset_options_are_refused(
    options: dict[str, Any], message: str, world_model: RolloutModel, opened_store: Store
) -> None:
    vector = WorldModelVectorEnv(COUNT, world_model, opened_store)
    vector.reset(seed=0)
    with pytest.raises(UserError, match=message):
        vector.reset(options=options)


def test_other_invalid_input_is_refused(world_model: RolloutModel, opened_store: Store) -> None:
    with pytest.raises(UserError, match="num_envs has to be at least 1, not 0"):
        WorldModelVectorEnv(0, world_model, opened_store)
    vector = WorldModelVectorEnv(COUNT, world_model, opened_store)
    with pytest.raises(UserError, match="has to be reset before its first step"):
        vector.step(actions(1)[0])
    with pytest.raises(UserError, match="seed: 3 environments need one value or 3, not 2"):
        vector.reset(seed=[1, 2])
    vector.reset(seed=0)
    with pytest.raises(UserError, match="3 times four finite numbers"):
        vector.step(actions(1)[0, :2])
    with pytest.raises(UserError, match="3 environments need as many states, not 1"):
        vector.set_state(vector.get_state()[:1])
    with pytest.raises(ValueError, match="not a valid AutoresetMode"):
        WorldModelVectorEnv(COUNT, world_model, opened_store, autoreset_mode="Sometimes")
