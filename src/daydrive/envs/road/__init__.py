"""The built-in road simulator: `gymnasium.make('daydrive/Road-v0')`, scripted drives and counterfactual rollouts."""

from __future__ import annotations

from daydrive.envs.road.driver import Driver, drive
from daydrive.envs.road.env import RoadEnv, counterfactual

__all__ = ["Driver", "RoadEnv", "counterfactual", "drive"]
