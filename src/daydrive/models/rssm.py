"""A small recurrent state-space model, after the world model of Dreamer (Hafner et al. 2019, 2020, 2023).

The state consists of the hidden vector of a GRU and of categorical variables. The posterior is conditioned on the
frame, the prior predicts it; the loss brings them together. Images are decoded from the state alone.
Shapes: B clips, T frames, N images, G variables of K classes each, D = recurrent_dim + G * K.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F

from daydrive.config import LossConfig, ModelConfig
from daydrive.errors import UserError
from daydrive.losses import Distance
from daydrive.models.interface import GradientCheckpointing, LossOutput, Unit, WorldModel
from daydrive.models.noise import sample_noise

FREE_NATS = 1.0
DYNAMICS, REPRESENTATION = 1.0, 0.1
"""Weights of the KL divergence for the prior and for the posterior (KL balancing, DreamerV3)."""

UNIFORM = 0.01
"""Share of the uniform distribution in each categorical."""

LOGIT_SCALE = 4.0
"""Sharpens the initial logits: from nearly uniform ones the samples would be noise that the decoder ignores."""

ACTION_SCALE = 5.0
"""Scale of the actions, which are small compared with one-hot variables."""


class RSSMConfig(ModelConfig):
    """channels: of the encoder, fine to coarse, each stage halves the size; the decoder mirrors it.

    recurrent_dim: of the GRU; hidden_dim: of the layers around it; groups: number of categorical variables; classes: of
    each variable.
    """

    type: Literal["rssm"] = "rssm"
    channels: list[PositiveInt] = Field([24, 48, 96, 128], min_length=1)
    recurrent_dim: PositiveInt = 256
    hidden_dim: PositiveInt = 256
    groups: PositiveInt = 32
    classes: int = Field(16, ge=2)

    def larger(self) -> list[str]:
        return [f"model.recurrent_dim={2 * self.recurrent_dim}", f"model.hidden_dim={2 * self.hidden_dim}"]


class RSSMState(NamedTuple):
    """recurrent: (B, recurrent_dim); variables: (B, G * K), one-hot each."""

    recurrent: Tensor
    variables: Tensor


class Encoder(GradientCheckpointing):
    def __init__(self, config: RSSMConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.GroupNorm(1, b), nn.SiLU())
            for a, b in pairwise((3, *config.channels))
        )
        self.out_proj = nn.Linear(config.channels[-1] * grid[0] * grid[1], config.hidden_dim)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] → (N, hidden_dim)."""
        x = images.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = self.checkpointed(stage, x)
        embedded: Tensor = self.out_proj(x.flatten(1))
        return embedded


class Dynamics(nn.Module):
    """The GRU, and the prior and posterior of the categorical variables."""

    def __init__(self, config: RSSMConfig) -> None:
        super().__init__()
        hidden, recurrent = config.hidden_dim, config.recurrent_dim
        self.shape = (config.groups, config.classes)
        variables = config.groups * config.classes
        inputs = variables + config.action_dim
        self.in_proj = nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.SiLU())
        self.cell = nn.GRUCell(hidden, recurrent)
        self.prior = _head(recurrent, hidden, variables)
        self.posterior = _head(recurrent + hidden, hidden, variables)

    def advance(self, state: RSSMState, action: Tensor) -> Tensor:
        """The next recurrent vector (B, recurrent_dim)."""
        x = self.in_proj(torch.cat((state.variables, ACTION_SCALE * action), -1))
        return self.cell(x, state.recurrent).float()

    def prior_logits(self, recurrent: Tensor) -> Tensor:
        """(..., recurrent_dim) → normalised logits (..., G, K)."""
        return self._normalised(self.prior(recurrent))

    def posterior_logits(self, recurrent: Tensor, embedded: Tensor) -> Tensor:
        """As `prior_logits`, also given the embedded frame (..., hidden_dim)."""
        return self._normalised(self.posterior(torch.cat((recurrent, embedded), -1)))

    def _normalised(self, logits: Tensor) -> Tensor:
        odds = (LOGIT_SCALE * logits.float()).unflatten(-1, self.shape).softmax(-1)
        return ((1 - UNIFORM) * odds + UNIFORM / self.shape[1]).log()


class Decoder(GradientCheckpointing):
    def __init__(self, config: RSSMConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = (config.channels[-1], *grid)
        features = config.recurrent_dim + config.groups * config.classes
        self.in_proj = nn.Linear(features, config.channels[-1] * grid[0] * grid[1])
        self.stages = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1), nn.GroupNorm(1, b), nn.SiLU())
            for a, b in pairwise(config.channels[::-1])
        )
        self.out_proj = nn.ConvTranspose2d(config.channels[0], 3, 4, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) → images (N, 3, H, W), approximately in [-1, 1]."""
        x = self.in_proj(features).unflatten(1, self.grid).contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = self.checkpointed(stage, x)
        return 2 * self.out_proj(x).float()


class RSSM(WorldModel):
    config_class = RSSMConfig

    def __init__(self, config: ModelConfig, image_size: tuple[int, int], context_frames: int) -> None:
        """Raises UserError if a side of the images is not divisible by the total downsampling factor."""
        super().__init__(config, image_size, context_frames)
        assert isinstance(config, RSSMConfig)
        shrunk = 2 ** len(config.channels)
        if any(side % shrunk for side in image_size):
            raise UserError(
                f"model.channels = {config.channels} halves images {len(config.channels)} times, so both sides have to "
                f"be multiples of {shrunk}, and {image_size[0]}x{image_size[1]} are not"
            )
        grid = (image_size[0] // shrunk, image_size[1] // shrunk)
        self.shape, self.recurrent_dim = (config.groups, config.classes), config.recurrent_dim
        self.encoder = Encoder(config, grid)
        self.dynamics = Dynamics(config)
        self.decoder = Decoder(config, grid)

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> RSSMState:
        shape = (images.shape[1], 1, *self.shape)
        noise = None if generator is None else _uniform(sample_noise(torch.rand, shape, generator, 1), images.device)
        return self.observe(images, actions, noise)[0][-1]

    def step(
        self, state: RSSMState, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[RSSMState, Tensor]:
        recurrent = self.dynamics.advance(state, action)
        shape = (1, *self.shape)
        noise = None if generator is None else _uniform(sample_noise(torch.rand, shape, generator), action.device)
        state = RSSMState(recurrent, draw(self.dynamics.prior_logits(recurrent), noise))
        frame: Tensor = self.decoder(torch.cat(state, -1))
        return state, frame.clamp(-1, 1)

    def reconstruct(self, images: Tensor, actions: Tensor, frames: Sequence[int]) -> Tensor:
        """Each frame decoded from the most likely state of the posterior."""
        return self._decoded(self.observe(images, actions, None)[0], frames).clamp(-1, 1)

    def observe(self, images: Tensor, actions: Tensor, noise: Tensor | None) -> tuple[list[RSSMState], Tensor, Tensor]:
        """(B, T, 3, H, W), (B, T-1, action_dim), uniform noise (T, B or 1, G, K), see `draw` → T states, and the
        logits (B, T, G, K) of posterior and prior."""
        clips, length = images.shape[:2]
        embedded = self.encoder(images.flatten(0, 1)).unflatten(0, (clips, length))
        before = torch.cat((actions.new_zeros(clips, 1, actions.shape[2]), actions), 1)
        zeros = images.new_zeros
        state = RSSMState(zeros(clips, self.recurrent_dim), zeros(clips, self.shape[0] * self.shape[1]))
        states, posteriors = [], []
        for t in range(length):
            recurrent = self.dynamics.advance(state, before[:, t])
            posteriors.append(self.dynamics.posterior_logits(recurrent, embedded[:, t]))
            state = RSSMState(recurrent, draw(posteriors[-1], None if noise is None else noise[t]))
            states.append(state)
        priors = self.dynamics.prior_logits(torch.stack([state.recurrent for state in states], 1))
        return states, torch.stack(posteriors, 1), priors

    def loss(self, images: Tensor, actions: Tensor, config: LossConfig, distance: Distance) -> LossOutput:
        """recon_loss: squared error of images scaled to [-0.5, 0.5], summed over pixels; kl_loss: the balanced KL
        divergence in nats; both are means over frames. Of the loss weights only `recon_weight` is used.

        In training a random half of the frames is decoded, since decoding dominates the cost.
        """
        clips, length = images.shape[:2]
        noise = _uniform(torch.rand(length, clips, *self.shape, device=images.device), images.device)
        states, posterior, prior = self.observe(images, actions, noise)
        frames = torch.randperm(length)[: (length + 1) // 2].tolist() if self.training else list(range(length))
        error = (self._decoded(states, frames) - images[:, frames]) / 2
        parts = {
            "recon_loss": error.square().sum((-3, -2, -1)).mean(1),
            "kl_loss": balanced_divergence(posterior, prior),
        }
        return LossOutput(config.recon_weight * parts["recon_loss"] + parts["kl_loss"], parts)

    def end_weights(self) -> set[str]:
        ends = ("encoder.stages.0.0.", "decoder.out_proj.")
        return {name for name, _ in self.named_parameters() if name.startswith(ends)}

    def parallel_units(self) -> list[Unit]:
        methods = ("advance", "prior_logits", "posterior_logits")
        return [Unit(self.encoder), Unit(self.dynamics, methods), Unit(self.decoder)]

    def _decoded(self, states: Sequence[RSSMState], frames: Sequence[int]) -> Tensor:
        features = torch.stack([torch.cat(states[t], -1) for t in frames], 1)
        decoded: Tensor = self.decoder(features.flatten(0, 1))
        return decoded.unflatten(0, features.shape[:2])


def draw(logits: Tensor, noise: Tensor | None) -> Tensor:
    """Sample one-hot variables (B, G * K) from normalised logits (B, G, K) with straight-through gradients.

    noise: uniform (B or 1, G, K), used by the Gumbel-max trick; None: the most likely classes.
    """
    scores = logits if noise is None else logits - (-noise.log()).log()
    chosen = F.one_hot(scores.argmax(-1), logits.shape[-1]).to(logits)
    odds = logits.exp()
    return (chosen + odds - odds.detach()).flatten(-2)


def balanced_divergence(posterior: Tensor, prior: Tensor) -> Tensor:
    """(B,) in nats, mean over frames: KL divergence of normalised logits (B, T, G, K) with separate weights for the
    gradients of prior and posterior."""
    dynamics, representation = _divergence(posterior.detach(), prior), _divergence(posterior, prior.detach())
    return DYNAMICS * dynamics + REPRESENTATION * representation


def _divergence(posterior: Tensor, prior: Tensor) -> Tensor:
    nats = kl_divergence(Categorical(logits=posterior), Categorical(logits=prior)).sum(-1)
    return nats.mean(-1).clamp(min=FREE_NATS)


def _uniform(noise: Tensor, device: torch.device) -> Tensor:
    """Uniform numbers from [0, 1) in the open interval (0, 1), on the device."""
    return noise.clamp_(1e-6, 1 - 1e-6).to(device)


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, outputs))
