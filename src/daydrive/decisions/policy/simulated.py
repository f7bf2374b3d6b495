"""Examples from the true road simulator, for the comparison with learning inside a model.

Noise injection: the scripted driver's actions are disturbed, and its corrections are the examples (Laskey et al.,
"DART: noise injection for robust imitation learning", CoRL 2017). DAgger: the policy itself drives, and the scripted
driver says what it would do (Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to
no-regret online learning", AISTATS 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from daydrive.decisions.policy.cloning import Examples, examples_of
from daydrive.decisions.policy.network import Policy
from daydrive.envs.road import Driver, RoadEnv
from daydrive.envs.world_model.readout import FRAMES, reduce_images
from daydrive.types import ACTION_HIGH, ACTION_LOW, Image

NOISE, NOISE_SECONDS = 0.35, 0.5
"""Standard deviation and correlation time of the disturbance of the wheel."""

FIRST_SEED = 3_000_017
"""Seed of the first road; those of evaluations and of stores are others."""

LATERAL, HEADING = 1.5, 10.0
"""DAgger's drives start at most this far (m, degrees) from the middle of the lane and from its direction."""


def disturbed_drive(
    seed: int, frames: int, image_size: tuple[int, int], horizon: float, policy: Policy | None = None
) -> Examples:
    """One drive of `frames` frames on the road of a seed, labelled with the scripted driver's actions.

    policy: that drives, from a displaced start; None: the scripted driver, disturbed.
    """
    random = np.random.default_rng([seed, 17])
    env, driver = RoadEnv(image_size), steady_driver(seed)
    _, info = env.reset(seed=seed)
    if policy is not None:
        env.set_pose(random.uniform(-LATERAL, LATERAL), math.radians(random.uniform(-HEADING, HEADING)), info["speed"])
        info = env.info
    decay, noise, ended = math.exp(-1 / (NOISE_SECONDS * env.metadata["render_fps"])), 0.0, False
    images, actions = [env.observe()], []
    while len(images) < frames and not ended:
        label = action = driver.act(info)
        if policy is None:
            noise = decay * noise + math.sqrt(1 - decay**2) * NOISE * random.standard_normal()
            action = np.clip(label + np.array([noise, 0, 0, 0], np.float32), ACTION_LOW, ACTION_HIGH)
        else:
            action = policy(_newest(images))[0].numpy()
        actions.append(label)
        _, ended, info = env.advance(action)
        images.append(env.observe())
    actions.append(driver.act(info))
    rows = torch.arange(FRAMES - 1, len(images))[:, None] - torch.arange(FRAMES - 1, -1, -1)
    stacked = torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous()
    return examples_of(reduce_images(stacked), rows, torch.from_numpy(np.stack(actions[FRAMES - 1 :])), horizon)


def steady_driver(seed: int) -> Driver:
    """The scripted driver of a seed without its manoeuvres, its drift within the lane and its tremor."""
    driver = Driver(seed)
    driver.style = replace(driver.style, rates={}, tremor=0.0, drift_amplitude=0.0)
    return driver


def _newest(images: Sequence[Image]) -> Tensor:
    """The newest frames, uint8 (1, FRAMES, 3, H, W); the first one is repeated at the start."""
    pair = [images[max(0, len(images) - back)] for back in range(FRAMES, 0, -1)]
    return torch.from_numpy(np.stack(pair)).movedim(-1, 1)[None]
