"""The embedded road world: `gymnasium.make('daydrive/Road-v0')`, drives and counterfactuals without any download."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from daydrive.sim.driver import Driver, drive
from daydrive.sim.env import RoadEnv, counterfactual

if "daydrive/Road-v0" not in registry:
    register("daydrive/Road-v0", entry_point="daydrive.sim.env:RoadEnv")

__all__ = ["Driver", "RoadEnv", "counterfactual", "drive"]
