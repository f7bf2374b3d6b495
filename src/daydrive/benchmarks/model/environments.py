"""Frames per second of environments: one vector environment against as many steps of a single one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from daydrive.benchmarks.interleaved_timing import Effort, least, time_interleaved
from daydrive.benchmarks.model.scene import swaying_actions
from daydrive.checkpoint import RolloutModel, load
from daydrive.data.store.store import Store
from daydrive.envs.world_model import WorldModelEnv, WorldModelVectorEnv

COUNT = 64


def environments_per_second(loaded: RolloutModel, store: Store, effort: Effort, device: torch.device) -> dict[str, Any]:
    """Frames per second, from the shortest times, of `COUNT` environments on the device."""
    moved = load(loaded.path, device)
    single, vector = WorldModelEnv(moved, store), WorldModelVectorEnv(COUNT, moved, store)
    single.reset(seed=0)
    vector.reset(seed=0)
    action = swaying_actions(1)[0, 0].numpy()
    actions = np.tile(action, (COUNT, 1))

    def single_steps() -> None:
        for _ in range(COUNT):
            single.step(action)

    seconds = least(time_interleaved({"single": single_steps, "vector": lambda: vector.step(actions)}, effort, device))
    return {"environments": COUNT, **{f"{name}_frames_per_second": COUNT / each for name, each in seconds.items()}}
