"""Behaviour cloning: a network learns the actions that a driver took at given frames (Pomerleau, NIPS 1988)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from daydrive.data.store.store import Store
from daydrive.decisions.policy.network import Policy, PolicyInfo, PolicyNetwork
from daydrive.envs.world_model import ground_motion
from daydrive.envs.world_model.readout import FRAMES
from daydrive.envs.world_model.readout_training import read_reduced, warmup_and_cosine
from daydrive.errors import UserError
from daydrive.types import to_signed
from daydrive.version import __version__

BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 1e-3, 1e-2
BETA = 0.05
"""Of the smooth L1 loss: above it, outliers such as sudden manoeuvres count linearly."""

BRIGHTNESS, NOISE = 0.2, 0.03
"""Augmentation: standard deviations of brightness and contrast per clip, and of the noise of pixels, of [-1, 1]."""

VALIDATION_STEPS = 200
CHUNK = 256
"""Images that are decoded at once."""


class Examples(NamedTuple):
    """What a driver saw and did. images: uint8 (P, 3, h, w), reduced; correlations: (P, `ground_motion.FEATURES`), of
    each image and the one before it; controls: float32 (P, 3), steering, throttle and brake."""

    images: Tensor
    correlations: Tensor
    controls: Tensor


def examples_of(images: Tensor, rows: Tensor, actions: Tensor, horizon: float) -> Examples:
    """images: uint8 (N, 3, h, w), reduced; rows: (P, FRAMES), the images of each example, the newest last; actions:
    float32 (P, 4)."""
    parts = rows.split(CHUNK)
    correlations = [ground_motion.correlations(to_signed(images[part]), horizon) for part in parts]
    return Examples(images[rows[:, -1]], torch.cat(correlations), actions[:, :3].contiguous())


def join(parts: Sequence[Examples]) -> Examples:
    """All examples of several sets."""
    return Examples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def recorded_examples(store: Store, split: str, frame_skip: int, horizon: float) -> Examples:
    """The frames of a split, with the actions of its drivers, where they drive forwards.

    Raises UserError if there are none.
    """
    drives = [drive for drive in store.split(split) if drive.frames > (FRAMES - 1) * frame_skip]
    newest = [np.arange(d.start + (FRAMES - 1) * frame_skip, d.start + d.frames) for d in drives]
    rows = np.concatenate(newest) if newest else np.zeros(0, np.int64)
    actions = store.read_actions(rows) if len(rows) else np.zeros((0, 4), np.float32)
    rows, actions = rows[actions[:, 3] > 0], actions[actions[:, 3] > 0]
    if len(rows) == 0:
        raise UserError(f"the split '{split}' of {store.path} has no two frames in a row that are driven forwards")
    pairs = rows[:, None] - frame_skip * np.arange(FRAMES - 1, -1, -1)
    images, places = read_reduced(store, pairs)
    return examples_of(images, places, torch.from_numpy(actions), horizon)


def cloning_loss(network: PolicyNetwork, examples: Examples, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """The loss on the examples of these numbers, augmented, a scalar."""
    images = augmented(to_signed(examples.images[chosen]), generator)
    controls = network.controls(images, examples.correlations[chosen])
    return F.smooth_l1_loss(controls, examples.controls[chosen], beta=BETA)


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, 3, h, w) with another brightness and contrast each, and noise."""
    change = BRIGHTNESS * torch.randn(2, len(images), 1, 1, 1, generator=generator)
    noise = NOISE * torch.randn(images.shape, generator=generator)
    return images * (1 + change[0]) + change[1] + noise


def clone(
    network: PolicyNetwork,
    examples: Examples,
    steps: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
    validation: Examples | None = None,
) -> None:
    """Train `network` in place with AdamW, a warm-up and a cosine schedule.

    progress: called with the steps done. validation: its best weights on them are the result; default: the last ones.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = warmup_and_cosine(optimizer, steps)
    best, least = None, math.inf
    network.train()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for step in range(steps):
            chosen = torch.randint(len(examples.controls), (BATCH,), generator=generator)
            loss = cloning_loss(network, examples, chosen, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress(step + 1)
            if validation is not None and (step + 1) % VALIDATION_STEPS == 0:
                error = cloning_error(network, validation)
                network.train()
                if error < least:
                    best, least = copy.deepcopy(network.state_dict()), error
    network.eval()
    if best is not None:
        network.load_state_dict(best)


def cloned_policy(
    store: Store,
    examples: Examples,
    frame_skip: int,
    horizon: float,
    steps: int,
    seed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Policy:
    """A policy cloned for `steps` from the examples of a store. progress: called with the steps done."""
    network = initial_network(horizon, seed)
    clone(network, examples, steps, seed, progress)
    return Policy(network, policy_info("cloning", store, frame_skip, horizon, seed))


def initial_network(horizon: float, seed: int) -> PolicyNetwork:
    """A network with the initial weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PolicyNetwork(horizon)


def policy_info(
    learned: str, store: Store, frame_skip: int, horizon: float, seed: int, checkpoint: str | None = None
) -> PolicyInfo:
    """Describes a policy that was learned from the drives of a store."""
    return PolicyInfo(
        learned=learned,
        hz=store.clip_hz(frame_skip),
        image_size=store.image_size,
        horizon=horizon,
        checkpoint=checkpoint,
        store=store.fingerprint,
        seed=seed,
        daydrive=__version__,
    )


@torch.no_grad()
def cloning_error(network: PolicyNetwork, examples: Examples) -> float:
    """Mean absolute error of the steering on examples."""
    parts = torch.arange(len(examples.controls)).split(CHUNK)
    network.eval()
    errors = [network.steering(to_signed(examples.images[p])) - examples.controls[p, 0] for p in parts]
    return float(torch.cat(errors).abs().mean())
