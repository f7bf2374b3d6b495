"""The built-in road simulator: `gymnasium.make('daydrive/Road-v0')`, scripted drives and counterfactual rollouts."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from daydrive.envs.road.driver import Driver, drive
from daydrive.envs.road.env import RoadEnv, counterfactual

if "daydrive/Road-v0" not in registry:
    register("daydrive/Road-v0", entry_point="daydrive.envs.road.env:RoadEnv")

__all__ = ["Driver", "RoadEnv", "counterfactual", "drive"]
