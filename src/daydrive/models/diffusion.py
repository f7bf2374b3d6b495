"""A small diffusion world model that denoises the next frame, after DIAMOND (Alonso et al. 2024).

A U-Net is given the last frames and the noisy difference between the newest frame and the next; actions and noise level
modulate its norms. Training and sampling follow Karras et al. 2022 ("EDM"). DIAMOND denoises the frame itself; the
difference (Price et al. 2023) can be learned within minutes.
Shapes: B clips, T frames, C = `context_frames`, N predicted frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from daydrive.config import LossConfig, ModelConfig
from daydrive.errors import UserError
from daydrive.losses import Distance
from daydrive.models.interface import GradientCheckpointing, LossOutput, Unit, WorldModel
from daydrive.models.noise import sample_noise

SIGMA_DATA = 0.5
CHANGE_SCALE = 4.0
"""Scale of the difference between frames in [-1, 1]; its standard deviation becomes about `SIGMA_DATA`."""

LOG_SIGMA = (0.2, 1.2)
"""Mean and standard deviation of the log noise level in training; more noise than in DIAMOND, since with few sampling
steps most of the prediction is made in the first one."""

ACTION_SCALE = 5.0
"""Scale of the actions, which are small compared with the embedding of the noise level."""

SIGMAS = (5.0, 0.002, 7.0)
"""Sampling: maximum and minimum noise level, and Karras' rho, which spaces the levels between them."""


class DiffusionConfig(ModelConfig):
    """channels: of the U-Net, fine to coarse, the first at half the image size. condition_dim: size of the embedding
    that modulates it.

    context_noise: maximum noise added to past frames in training, for robustness against the errors of a rollout.
    sampling_steps: denoising steps per frame.
    """

    type: Literal["diffusion"] = "diffusion"
    channels: list[PositiveInt] = Field([32, 64, 96], min_length=1)
    condition_dim: int = Field(128, ge=2, multiple_of=2)
    context_noise: float = Field(0.05, ge=0)
    sampling_steps: PositiveInt = 2

    def larger(self) -> list[str]:
        return [f"model.channels=[{','.join(str(2 * width) for width in self.channels)}]"]


class DiffusionState(NamedTuple):
    """images: (B, C, 3, H, W), the newest last; actions: (B, C-1, action_dim), between them."""

    images: Tensor
    actions: Tensor


class Block(GradientCheckpointing):
    """Residual block of two convolutions; the condition scales and shifts the norms."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(max(1, n // 16), n, affine=False) for n in (inputs, outputs))
        self.modulations = nn.ModuleList(nn.Linear(condition, 2 * n) for n in (inputs, outputs))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.checkpointed(self._changed, x, condition)

    def _changed(self, x: Tensor, condition: Tensor) -> Tensor:
        for norm, modulation, conv in zip(self.norms, self.modulations, (self.conv1, self.conv2), strict=True):
            scale, shift = modulation(condition)[:, :, None, None].chunk(2, 1)
            x = conv(F.silu(torch.addcmul(shift, norm(x), 1 + scale)))
        return x


class Encoder(nn.Module):
    """The downsampling path of the U-Net."""

    def __init__(self, config: DiffusionConfig, context_frames: int) -> None:
        super().__init__()
        widths, condition = config.channels, config.condition_dim
        self.in_proj = nn.Conv2d(4 * 3 * (context_frames + 1), widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(Block(n, n, condition) for n in widths)
        self.downsample = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))

    def forward(self, x: Tensor, condition: Tensor) -> list[Tensor]:
        """Frames and noisy difference (B, 3 * (C + 1), H, W) → features, fine to coarse."""
        x = self.in_proj(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        features = []
        for k, block in enumerate(self.blocks):
            x = block(self.downsample[k - 1](x) if k else x, condition)
            features.append(x)
        return features


class Dynamics(nn.Module):
    """Embedding of actions and noise level, and the bottleneck of the U-Net."""

    frequencies: Tensor

    def __init__(self, config: DiffusionConfig, context_frames: int) -> None:
        super().__init__()
        width = config.condition_dim
        self.register_buffer("frequencies", torch.randn(width // 2))
        actions = config.action_dim * context_frames
        self.embed = nn.Sequential(nn.Linear(actions, width), nn.SiLU(), nn.Linear(width, width))
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.block = Block(config.channels[-1], config.channels[-1], width)

    def condition(self, sigma: Tensor, actions: Tensor) -> Tensor:
        """Noise levels (B,), actions (B, C, action_dim) → (B, condition_dim)."""
        angles = 2 * math.pi * (sigma.log() / 4)[:, None] * self.frequencies
        noise = torch.cat((angles.cos(), angles.sin()), 1)
        mixed: Tensor = self.mix(noise + self.embed(ACTION_SCALE * actions.flatten(1)))
        return mixed

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        changed: Tensor = self.block(x, condition)
        return changed


class Decoder(nn.Module):
    """The upsampling path of the U-Net."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        widths, condition = config.channels, config.condition_dim
        self.blocks = nn.ModuleList(Block(2 * n, n, condition) for n in widths)
        self.upsample = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.out_proj = nn.Conv2d(widths[0], 4 * 3, 3, padding=1)
        self.gain = nn.Linear(condition, 3)
        for layer in (self.out_proj, self.gain):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, features: list[Tensor], noisy: Tensor, condition: Tensor) -> Tensor:
        """The output (B, 3, H, W). `noisy`, of the same shape, is added with a learned gain, so that white noise need
        not pass through the narrow U-Net."""
        for k in reversed(range(len(self.blocks))):
            x = self.blocks[k](torch.cat((x, features[k]), 1), condition)
            x = F.interpolate(self.upsample[k - 1](x), scale_factor=2.0) if k else x
        return F.pixel_shuffle(self.out_proj(F.silu(x)), 2) + self.gain(condition)[:, :, None, None] * noisy


class Diffusion(WorldModel):
    config_class = DiffusionConfig

    def __init__(self, config: ModelConfig, image_size: tuple[int, int], context_frames: int) -> None:
        """Raises UserError if a side of the images is not divisible by the total downsampling factor."""
        super().__init__(config, image_size, context_frames)
        assert isinstance(config, DiffusionConfig)
        shrunk = 2 ** len(config.channels)
        if any(side % shrunk for side in image_size):
            raise UserError(
                f"model.channels = {config.channels} halves images {len(config.channels)} times, so both sides have to "
                f"be multiples of {shrunk}, and {image_size[0]}x{image_size[1]} are not"
            )
        self.context_noise, self.sampling_steps = config.context_noise, config.sampling_steps
        self.encoder = Encoder(config, context_frames)
        self.dynamics = Dynamics(config, context_frames)
        self.decoder = Decoder(config)

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> DiffusionState:
        """The newest `context_frames` frames; if there are fewer, the first is repeated, with zero actions."""
        return self._past(images, actions, images.shape[1] - 1)

    def step(
        self, state: DiffusionState, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[DiffusionState, Tensor]:
        """Samples the frame from noise drawn from the generator; without one from zeros, the most likely noise."""
        actions = torch.cat((state.actions, action[:, None]), 1)
        newest = state.images[:, -1]
        noise = torch.zeros_like(newest) if generator is None else _noise(newest, generator)
        frame = self._sample(state.images, actions, noise)
        return DiffusionState(torch.cat((state.images[:, 1:], frame[:, None]), 1), actions[:, 1:]), frame

    def reconstruct(self, images: Tensor, actions: Tensor, frames: Sequence[int]) -> Tensor:
        """Each frame, denoised after adding fixed noise of standard deviation `SIGMA_DATA` to its difference."""
        pasts = [self._past(images, actions, max(0, t - 1)) for t in frames]
        before = torch.stack([past.images for past in pasts], 1).flatten(0, 1)
        padded = torch.cat((actions.new_zeros(len(actions), 1, actions.shape[2]), actions), 1)
        taken = torch.stack(
            [torch.cat((past.actions, padded[:, t, None]), 1) for past, t in zip(pasts, frames, strict=True)], 1
        ).flatten(0, 1)
        change = CHANGE_SCALE * (images[:, list(frames)].flatten(0, 1) - before[:, -1])
        sigma = change.new_full((len(change),), SIGMA_DATA)
        noisy = change + SIGMA_DATA * _noise(change, torch.Generator().manual_seed(0))
        clean = (before[:, -1] + self.denoise(noisy, sigma, before, taken) / CHANGE_SCALE).clamp(-1, 1)
        return clean.unflatten(0, (len(images), len(frames)))

    def loss(self, images: Tensor, actions: Tensor, config: LossConfig, distance: Distance) -> LossOutput:
        """denoising_loss: weighted squared error of the denoised differences, mean over the N frames after the context,
        times `pred_weight`. Each predicted frame becomes part of the past of the next.
        """
        frames = list(images.unbind(1))
        context, clips = self.context_frames, len(images)
        errors = []
        for t in range(context, len(frames)):
            past = torch.stack(frames[t - context : t], 1)
            amount = torch.rand(clips, 1, 1, 1, 1, device=images.device) * self.context_noise
            past = past + amount * torch.randn_like(past)
            sigma = (torch.randn(clips, device=images.device) * LOG_SIGMA[1] + LOG_SIGMA[0]).exp()
            change = CHANGE_SCALE * (frames[t] - past[:, -1])
            noisy = change + sigma.view(-1, 1, 1, 1) * torch.randn_like(change)
            clean = self.denoise(noisy, sigma, past, actions[:, t - context : t])
            weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
            errors.append(weight * (clean - change).square().flatten(1).mean(1))
            frames[t] = (past[:, -1] + clean.detach() / CHANGE_SCALE).clamp(-1, 1)
        error = torch.stack(errors).mean(0)
        return LossOutput(config.pred_weight * error, {"denoising_loss": error})

    def denoise(self, noisy: Tensor, sigma: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Noisy difference (B, 3, H, W), noise level (B,), frames (B, C, 3, H, W) in [-1, 1] and actions (B, C,
        action_dim), the last of which leads to the next frame → the clean difference (B, 3, H, W), both times
        `CHANGE_SCALE`."""
        condition = self.dynamics.condition(sigma, actions)
        sigma = sigma.view(-1, 1, 1, 1)
        total = (sigma**2 + SIGMA_DATA**2).sqrt()
        scaled = noisy / total
        features = self.encoder(torch.cat((scaled, past.flatten(1, 2) / SIGMA_DATA), 1), condition)
        x = self.decoder(self.dynamics(features[-1], condition), features, scaled, condition).float()
        return (SIGMA_DATA / total) ** 2 * noisy + sigma * SIGMA_DATA / total * x

    def end_weights(self) -> set[str]:
        ends = ("encoder.in_proj.", "decoder.out_proj.")
        return {name for name, _ in self.named_parameters() if name.startswith(ends)}

    def parallel_units(self) -> list[Unit]:
        return [Unit(self.encoder), Unit(self.dynamics, ("condition", "forward")), Unit(self.decoder)]

    def _sample(self, past: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """The next frame in [-1, 1], by Euler steps of the probability flow ODE from `noise`, standard normal (B, 3, H,
        W)."""
        levels = noise_levels(self.sampling_steps)
        x = noise * levels[0]
        for sigma, following in pairwise([*levels, 0.0]):
            clean = self.denoise(x, x.new_full(x.shape[:1], sigma), past, actions)
            x = clean + (x - clean) * (following / sigma)
        return (past[:, -1] + x / CHANGE_SCALE).clamp(-1, 1)

    def _past(self, images: Tensor, actions: Tensor, last: int) -> DiffusionState:
        """State that ends with frame `last`."""
        numbers = range(last - self.context_frames + 1, last + 1)
        still = actions.new_zeros(images.shape[0], self.config.action_dim)
        between = [actions[:, t] if t >= 0 else still for t in numbers[:-1]]
        seen = torch.stack([images[:, max(0, t)] for t in numbers], 1)
        return DiffusionState(seen, torch.stack(between, 1) if between else actions[:, :0])


def noise_levels(steps: int) -> list[float]:
    """Decreasing noise levels for sampling, equation 5 of Karras et al. with a final level of 0 (not included)."""
    first, last, rho = SIGMAS
    shares = [k / steps for k in range(steps)]
    return [(first ** (1 / rho) + s * (last ** (1 / rho) - first ** (1 / rho))) ** rho for s in shares]


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise."""
    return sample_noise(torch.randn, (1, *like.shape[1:]), generator).to(like).expand_as(like)
