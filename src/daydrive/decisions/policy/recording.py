"""Recorded drives of a policy in the road simulator, as those of the scripted driver."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from daydrive.data.sources.road import VALUES, drive_seed
from daydrive.decisions.policy.network import Policy, load_policy
from daydrive.envs.road import RoadEnv
from daydrive.envs.road.env import HZ
from daydrive.errors import UserError
from daydrive.recording.recorder import PlannedDrive
from daydrive.types import Frame


def planned_drives(file: Path, drives: int, frames: int, seed: int) -> tuple[list[PlannedDrive], dict[str, Any]]:
    """Drives of a policy on the roads that the dataset `road` has for this seed, and the settings of the recording.

    Raises UserError if the file is no policy, or one that decides at another rate than the simulator's.
    """
    policy = load_policy(file)
    if policy.info.hz != HZ:
        raise UserError(f"{file} decides at {policy.info.hz:g} Hz, and the road simulator has {HZ} frames a second")
    weights = b"".join(value.numpy().tobytes() for value in policy.network.state_dict().values())
    settings = {"env": "road", "policy": hashlib.sha256(weights).hexdigest(), "frames": frames, "seed": seed}
    return [_planned(policy, number, frames, drive_seed(seed, number)) for number in range(drives)], settings


def _planned(policy: Policy, number: int, frames: int, road: int) -> PlannedDrive:
    return PlannedDrive(f"road_{number:05d}", frames, lambda: _drive(policy, road, frames))


def _drive(policy: Policy, road: int, frames: int) -> Iterator[Frame]:
    env = RoadEnv(policy.info.image_size)
    image, info = env.reset(seed=road)
    before, ended = image, False
    for k in range(frames):
        if ended:
            return
        pair = torch.from_numpy(np.stack([before, image])).movedim(-1, 1)
        action = policy(pair[None])[0].numpy()
        yield Frame(image, action, k / HZ, {name: float(info[name]) for name in VALUES})
        before = image
        image, _, ended, _, info = env.step(action)
