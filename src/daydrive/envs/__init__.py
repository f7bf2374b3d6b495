"""Gymnasium environments: `daydrive/Road-v0`, the road simulator, and `daydrive/Dream-v0`, a world model."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

if "daydrive/Road-v0" not in registry:
    register("daydrive/Road-v0", entry_point="daydrive.envs.road.env:RoadEnv")
    register(
        "daydrive/Dream-v0",
        entry_point="daydrive.envs.world_model.env:WorldModelEnv",
        vector_entry_point="daydrive.envs.world_model.vector:WorldModelVectorEnv",
    )
