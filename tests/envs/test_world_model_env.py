"""The world model as an environment: Gymnasium's contract, starts, determinism, states, and invalid input."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

import daydrive
from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.envs.road import RoadEnv
from daydrive.envs.world_model import Readout, Transition, WorldModelEnv
from daydrive.errors import UserError
from daydrive.models.rollout import rollout_uint8
from helpers.architectures import ARCHITECTURES, rollout_model

CRUISE = np.array([0.1, 0.5, 0, 1], np.float32)
every = pytest.mark.parametrize("architecture", ARCHITECTURES)


def drive(env: WorldModelEnv, steps: int, start: int = 0) -> np.ndarray:
    actions = np.random.default_rng(5).uniform([-1, 0, 0, 1], [1, 1, 1, 1], (start + steps, 4))[start:]
    return np.stack([env.step(action)[0] for action in actions.astype(np.float32)])


def test_follows_gymnasiums_contract(trained: Path, road_store: Path, readout: Readout) -> None:
    env = gym.make(
        "daydrive/Dream-v0", checkpoint=trained, data_root=road_store, readout=readout, render_mode="rgb_array"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    assert env.metadata["render_fps"] == 10
    road = RoadEnv()
    assert env.observation_space == road.observation_space and env.action_space == road.action_space
    image, _ = env.reset(seed=3)
    assert np.array_equal(env.render(), image)
    image, *_ = env.step(CRUISE)
    assert np.array_equal(env.render(), image)


def test_episodes_continue_a_clip_of_the_store_as_a_rollout_does(world_model: RolloutModel, road_store: Path) -> None:
    env = WorldModelEnv(world_model, road_store, split="test")
    clips = daydrive.Clips(road_store, "test", length=4)
    for number in (0, len(clips) - 1):
        images, actions = clips[number]
        first, info = env.reset(options={"clip": number})
        assert np.array_equal(first, images[-1].permute(1, 2, 0).numpy())
        drives = clips.store.split("test")
        expected = (drives[0].name, 3) if number == 0 else (drives[-1].name, drives[-1].frames - 1)
        assert (info["clip"], info["drive"], info["frame"], info["steps"]) == (number, *expected, 0)
        taken = torch.tensor(CRUISE).expand(5, 4)
        expected_frames = rollout_uint8(world_model.model, images[None], torch.cat([actions, taken])[None])
        frames = [env.step(CRUISE) for _ in range(5)]
        assert np.array_equal(np.stack([f[0] for f in frames]), expected_frames[0].permute(0, 2, 3, 1).numpy())
        assert frames[-1][4]["steps"] == 5 and frames[-1][1:4] == (0.0, False, False)


@every
def test_the_seed_determines_the_episode(architecture: str, road_store: Path) -> None:
    env, other = (WorldModelEnv(rollout_model(architecture), road_store) for _ in range(2))
    _, info = env.reset(seed=1)
    frames = drive(env, 4)
    drive(other, 3) if other.reset(seed=2) else None
    _, again = other.reset(seed=1)
    assert again == info and np.array_equal(drive(other, 4), frames)
    _, later = env.reset()
    _, later_again = other.reset()
    assert later == later_again and np.array_equal(drive(env, 3), drive(other, 3))
    env.reset(seed=1, options={"clip": 7})
    one = drive(env, 4)
    env.reset(seed=3, options={"clip": 7})
    assert np.array_equal(drive(env, 4), one) == (architecture == "texture")


@every
def test_a_state_continues_in_any_environment_to_the_byte(
    architecture: str, road_store: Path, readout: Readout
) -> None:
    model = rollout_model(architecture)
    env = WorldModelEnv(model, road_store, readout)
    env.reset(seed=1)
    drive(env, 3)
    state, info = env.get_state(), env.step(CRUISE)[4]
    frames = drive(env, 6, start=3)
    env.set_state(state)
    assert env.step(CRUISE)[4] == info and np.array_equal(drive(env, 6, start=3), frames)
    fresh = WorldModelEnv(model, road_store, readout)
    fresh.set_state(state)
    assert np.array_equal(fresh.get_state().frames, state.frames)
    assert fresh.step(CRUISE)[4] == info and np.array_equal(drive(fresh, 6, start=3), frames)


def test_actions_are_clipped_and_the_gear_is_rounded(world_model: RolloutModel, road_store: Path) -> None:
    env = WorldModelEnv(world_model, road_store)
    env.reset(seed=1)
    state = env.get_state()
    images = []
    for action in ([-1, 1, 0, 1], [-3, 1.5, -0.2, 0.7], [-1, 1, 0, -1], [-1, 1, 0, 0.4]):
        env.set_state(state)
        images.append(env.step(np.array(action, np.float32))[0])
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2]) and not np.array_equal(images[0], images[3])


def test_rewards_and_terminations_are_functions_of_the_transition(
    world_model: RolloutModel, road_store: Path, readout: Readout
) -> None:
    seen: list[Transition] = []

    def reward(transition: Transition) -> Tensor:
        seen.append(transition)
        return transition.actions[:, 1, 1] - transition.actions[:, 0, 1]

    env = WorldModelEnv(world_model, road_store, readout, reward, lambda t: t.actions[:, 1, 2] > 0.5)
    first, _ = env.reset(seed=4, options={"clip": 2})
    recorded = daydrive.Clips(road_store, "train", length=4)[2][1]
    second, gain, terminated, _, _ = env.step(CRUISE)
    assert gain == pytest.approx(0.5 - float(recorded[-1, 1])) and not terminated
    third, gain, terminated, truncated, info = env.step(np.array([0, 0.1, 1, 1], np.float32))
    assert gain == pytest.approx(-0.4) and terminated is True and truncated is False
    for transition, (before, after) in zip(seen, ((first, second), (second, third)), strict=True):
        assert np.array_equal(transition.frames[0].permute(0, 2, 3, 1), np.stack([before, after]))
        assert transition.hz == 10
    readings = readout(seen[-1].frames)
    assert {name: info[name] for name in readings} == {name: float(value) for name, value in readings.items()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": "nowhere"}, "there is no checkpoint nowhere"),
        ({"data_root": "nowhere"}, "there is no store at nowhere"),
        ({"split": "trian"}, "did you mean 'train'"),
        ({"readout": "nowhere.safetensors"}, "there is no readout nowhere.safetensors"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str, trained: Path, road_store: Path) -> None:
    with pytest.raises(UserError, match=message):
        WorldModelEnv(**{"checkpoint": trained, "data_root": road_store, **settings})


def test_a_store_of_another_size_is_refused(trained: Path, small_store: Path) -> None:
    with pytest.raises(UserError, match=r"expects images of 64x64 and the store .* has 32x32"):
        WorldModelEnv(trained, small_store)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": -1}, "there is no clip -1: the clips of the split 'train' of .* have the numbers 0 to 41"),
        ({"clip": 42}, "no clip 42"),
        ({"clip": 1.5}, "no clip 1.5"),
        ({"clip": "first"}, "no clip 'first'"),
        ({"clip": True}, "no clip True"),
        ({"clop": 1}, "unknown reset option 'clop'; did you mean 'clip'"),
        ({"weather": "fog"}, "unknown reset option 'weather'"),
    ],
)
def test_invalid_reset_options_are_refused(
    options: dict[str, Any], message: str, world_model: RolloutModel, road_store: Path
) -> None:
    with pytest.raises(UserError, match=message):
        WorldModelEnv(world_model, road_store).reset(options=options)


def test_invalid_actions_states_and_functions_are_refused(
    world_model: RolloutModel, road_store: Path, opened_store: Store
) -> None:
    env = WorldModelEnv(world_model, road_store)
    with pytest.raises(UserError, match="has to be reset before its first step"):
        env.step(CRUISE)
    env.reset(seed=1)
    for action in (CRUISE[:3], [0, np.nan, 0, 1], [0, 0.5, 0, np.inf], "left", None):
        with pytest.raises(UserError, match="four finite numbers"):
            env.step(action)  # type: ignore[arg-type]
    state = env.get_state()
    foreign = WorldModelEnv(rollout_model("rssm"), road_store)
    foreign.reset(seed=1)
    beyond = state._replace(clip=10**6)
    smaller = state._replace(frames=state.frames[:, :, :32])
    unseeded = state._replace(rollout=state.rollout._replace(generator=torch.zeros(3)))
    for wrong in (foreign.get_state(), {"world": 1}, None, beyond, smaller, unseeded):
        with pytest.raises(UserError, match=r"not a state of this environment|there is no clip"):
            env.set_state(wrong)  # type: ignore[arg-type]
    frame = env.step(CRUISE)[0]
    env.set_state(state)
    assert np.array_equal(env.step(CRUISE)[0], frame)
    for reward, message in (
        (lambda transition: 1.0, "the reward function returned float instead of a tensor of shape \\(1,\\)"),
        (lambda transition: torch.zeros(2, 1), "returned \\(2, 1\\) instead"),
        (lambda transition: transition.reading("speed"), "needs 'speed', and the environment's readout reads nothing"),
    ):
        env = WorldModelEnv(world_model, road_store, reward=reward)
        env.reset(seed=1)
        with pytest.raises(UserError, match=message):
            env.step(CRUISE)
