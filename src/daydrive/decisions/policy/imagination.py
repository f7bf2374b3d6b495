"""Improving a policy inside a world model: it learns to return to the lane in rollouts that left it.

A cloned policy drifts, because no driver showed it the way back. Here noise on the wheel makes the model itself move
off the lane, and from there the policy drives on in the model. The readout reads where the car is in the predicted
frames; the derivative of that with respect to the actions, through the model, says how to steer better (Heess et al.,
"Learning continuous control policies by stochastic value gradients", NIPS 2015).

Against the exploitation of the model's errors: rollouts are short and start from recorded moments; the pedals, which
the model hardly obeys, stay those of the recorded driver; a cloning loss on recorded frames holds the policy near the
data; and readings count less the more they change with a little noise on the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from daydrive.decisions.policy.cloning import BATCH, Examples, cloning_loss
from daydrive.decisions.policy.network import PolicyNetwork
from daydrive.envs.world_model.moments import Moments
from daydrive.envs.world_model.readout import FRAMES, Readout, shrink
from daydrive.errors import UserError
from daydrive.models import Predictor, WorldModel
from daydrive.models.interface import State
from daydrive.models.states import concatenate, map_tensors
from daydrive.types import to_signed

LANE_OFFSET, HEADING, SPEED = "lane_offset", "heading_error", "speed"
NOISE = 0.05
"""Standard deviation of the noise on a frame that tests its reading, of [-1, 1]."""


@dataclass(frozen=True)
class ImaginationConfig:
    """updates: of the policy, each from `batch` rollouts of `horizon` steps.

    displacement: steps of noise on the wheel before a rollout, at most; noise: its standard deviation. preview: s, see
    `lane_cost`. cloning: weight of the cloning loss. noise_scale: m by which a reading may change with a little noise
    on the frame before it counts half. refresh: updates after which the displaced starts are drawn anew, from `moments`
    recorded moments at which the car is faster than `min_speed` (m/s).
    """

    updates: int = 60
    batch: int = 16
    horizon: int = 10
    displacement: int = 12
    noise: float = 0.5
    preview: float = 1.2
    cloning: float = 1.0
    noise_scale: float = 0.3
    refresh: int = 30
    moments: int = 48
    min_speed: float = 3.0
    learning_rate: float = 5e-4


class Starts(NamedTuple):
    """Where rollouts start. state: of the model; image: (N, 3, H, W) in [-1, 1], its newest frame; action: float32
    (N, 4), the recorded one at the moment; speed: m/s (N,), read from the recorded frames."""

    state: State
    image: Tensor
    action: Tensor
    speed: Tensor

    def select(self, which: Tensor) -> Starts:
        return Starts(
            map_tensors(lambda tensor: tensor[which], self.state),
            self.image[which],
            self.action[which],
            self.speed[which],
        )


def lane_cost(offset: Tensor, heading: Tensor, speed: Tensor, preview: float) -> Tensor:
    """How far the car will be from the middle of the lane in `preview` seconds if it goes straight on, and now.

    A driver who looks ahead by this time steers for the first one to vanish, and returns to the middle without
    overshooting (MacAdam, "Application of an optimal preview control for simulation of closed-loop automobile driving",
    1981). offset: m; heading: rad; speed: m/s; (B,) each.
    """
    ahead = offset + preview * speed * heading
    return F.smooth_l1_loss(ahead, torch.zeros_like(ahead), reduction="none") + 0.2 * F.smooth_l1_loss(
        offset, torch.zeros_like(offset), reduction="none"
    )


def displaced_starts(
    model: Predictor,
    readout: Readout,
    moments: Moments,
    network: PolicyNetwork,
    config: ImaginationConfig,
    generator: torch.Generator,
) -> Starts:
    """Starts at recorded moments and after some steps of driving off from there in the model."""
    drawn = torch.randint(len(moments), (config.moments,), generator=generator)
    recording = moments.read(drawn.tolist())
    speed = readout(recording.images[:, -FRAMES:])[SPEED]
    moving = (speed > config.min_speed) & (recording.actions[:, -1, 3] > 0)
    if not moving.any():
        raise UserError("there is no moment of the split 'train' at which the car moves forwards")
    images, actions, speed = recording.images[moving], recording.actions[moving], speed[moving]
    images = to_signed(images[:, -model.context_frames :])
    count, action = len(images), actions[:, -1]
    parts = []
    with torch.no_grad():
        state = model.init_state(images, actions[:, actions.shape[1] - model.context_frames + 1 :])
        image = images[:, -1]
        push = torch.zeros(count)
        for step in range(config.displacement + 1):
            if step % 4 == 0:
                parts.append(Starts(state, image, action, speed))
                push = config.noise * torch.randn(count, generator=generator)
            steering = (network.steering(shrink(image)) + push).clamp(-1, 1)
            state, image = model.step(state, torch.cat([steering[:, None], action[:, 1:]], dim=1))
            image = image.clamp(-1, 1)
    return Starts(
        concatenate([part.state for part in parts]),
        *(torch.cat([getattr(part, name) for part in parts]) for name in Starts._fields[1:]),
    )


def imagined_cost(
    model: WorldModel, readout: Readout, network: PolicyNetwork, starts: Starts, config: ImaginationConfig,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """The mean cost of rollouts with the policy, differentiable in its weights, a scalar."""
    state, image, cost = starts.state, starts.image, torch.zeros(())
    for _ in range(config.horizon):
        steering = network.steering(shrink(image.detach()))
        state, image = model.step(
            model.detach_images(state), torch.cat([steering[:, None], starts.action[:, 1:]], dim=1)
        )
        image = image.clamp(-1, 1)
        readings = readout.read_view(image)
        with torch.no_grad():
            noisy = readout.read_view(image + NOISE * torch.randn(image.shape, generator=generator))
            change = (noisy[LANE_OFFSET] - readings[LANE_OFFSET]).abs()
            weight = 1 / (1 + (change / config.noise_scale).square())
        cost = (
            cost + (weight * lane_cost(readings[LANE_OFFSET], readings[HEADING], starts.speed, config.preview)).mean()
        )
    return cost / config.horizon


def improve(
    network: PolicyNetwork,
    model: WorldModel,
    readout: Readout,
    moments: Moments,
    examples: Examples,
    config: ImaginationConfig,
    seed: int,
    progress: Callable[[int, float], None] = lambda done, cost: None,
) -> None:
    """Improve `network` in place. progress: called after each update with their number and the cost."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    model.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for update in range(config.updates):
            if update % config.refresh == 0:
                network.eval()
                starts = displaced_starts(model, readout, moments, network, config, generator)
            network.eval()
            chosen = torch.randint(len(starts.speed), (config.batch,), generator=generator)
            cost = imagined_cost(model, readout, network, starts.select(chosen), config, generator)
            network.train()
            recorded = torch.randint(len(examples.controls), (BATCH,), generator=generator)
            loss = cost + config.cloning * cloning_loss(network, examples, recorded, generator)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            progress(update + 1, cost.item())
    network.eval()
