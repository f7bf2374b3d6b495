"""Stable-Baselines3 trains in the world model as in any other environment."""

from __future__ import annotations

import warnings

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

from daydrive.checkpoint import RolloutModel
from daydrive.data.store.store import Store
from daydrive.envs.world_model import Readout


def test_ppo_trains_for_a_few_updates(world_model: RolloutModel, opened_store: Store, readout: Readout) -> None:
    settings = {"checkpoint": world_model, "data_root": opened_store, "readout": readout}
    env = gym.make("daydrive/Dream-v0", max_episode_steps=6, **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "We recommend you to use a symmetric and normalized Box action space")
        check_env(env.unwrapped)
        agent = PPO("CnnPolicy", env, n_steps=8, batch_size=8, n_epochs=2, seed=0, device="cpu")
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    agent.learn(24)
    assert agent.num_timesteps == 24 and agent._n_updates == 6
    assert any(not torch.equal(old, new) for old, new in zip(before, agent.policy.parameters(), strict=True))
    assert all(parameter.isfinite().all() for parameter in agent.policy.parameters())
    assert {episode["l"] for episode in agent.ep_info_buffer or ()} and agent.ep_info_buffer[0]["r"] != 0
