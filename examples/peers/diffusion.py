"""A world model that denoises the next frame: DIAMOND (Alonso et al. 2024) in small, for a processor.

A U-Net sees the last frames and a noisy change from the newest one to the next; actions and noise level modulate its
norms. It is trained and sampled as Karras et al. 2022 ("EDM") say. DIAMOND denoises the frame itself; its change
(Price et al. 2023) is what a few minutes are enough for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from daydrive.evaluation.adapter import Context
from daydrive.types import to_signed, to_uint8

SIGMA_DATA = 0.5
GAIN = 4.0
"""Of the change between frames in [-1, 1], so that it spreads about as much as `SIGMA_DATA` says."""
LOG_SIGMA = (0.2, 1.2)
"""Mean and spread of the logarithm of the noise in training; more noise than in DIAMOND, since the first step of few is
the one that foresees."""
LOUD = 5.0
"""Factor of the actions, small numbers beside the sines that tell the noise."""
SIGMAS = (5.0, 0.002, 7.0)
"""Of sampling: the first noise level, the one below which there is nothing to denoise, and Karras' rho between them."""


class Denoiser(nn.Module):
    """The change to the next frame from a noisy one, `context` past frames and the actions between them and the next.

    image_size: divisible by 8. channels: of the U-Net at 1/2, 1/4 and 1/8 of the picture's size.
    context_noise: the largest noise put on past frames in training, so that a dream's own errors are nothing new to it.
    """

    lr, batch_size, unroll = 2e-3, 8, 1
    """For training; `unroll` frames are learnt from a clip."""
    frequencies: Tensor

    def __init__(
        self,
        image_size: Sequence[int] = (64, 64),
        context: int = 4,
        channels: Sequence[int] = (32, 64, 96),
        condition: int = 128,
        context_noise: float = 0.05,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "image_size": list(image_size), "context": context, "channels": list(channels), "condition": condition,
            "context_noise": context_noise,
        }  # fmt: skip
        self.context, self.context_noise = context, context_noise
        self.register_buffer("frequencies", torch.randn(condition // 2))
        self.actions = nn.Sequential(nn.Linear(4 * context, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.mix = nn.Sequential(nn.Linear(condition, condition), nn.SiLU())
        self.enter = nn.Conv2d(4 * 3 * (context + 1), channels[0], 3, padding=1)
        self.down = nn.ModuleList(Block(n, n, condition) for n in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.middle = Block(channels[-1], channels[-1], condition)
        self.up = nn.ModuleList(Block(2 * n, n, condition) for n in channels)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(channels))
        self.leave = nn.Conv2d(channels[0], 4 * 3, 3, padding=1)
        self.gain = nn.Linear(condition, 3)
        for layer in (self.leave, self.gain):
            nn.init.zeros_(layer.weight)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def clip_length(self) -> int:
        """Frames of a training clip."""
        return self.context + self.unroll

    def forward(self, noisy: Tensor, sigma: Tensor, past: Tensor, actions: Tensor) -> Tensor:
        """Noisy change (B, 3, H, W), its noise (B,), frames (B, context, 3, H, W) in [-1, 1], actions (B, context, 4),
        the last of which leads to the next frame → the clean change (B, 3, H, W), `GAIN` times."""
        sigma = sigma.view(-1, 1, 1, 1)
        total = (sigma**2 + SIGMA_DATA**2).sqrt()
        angles = 2 * math.pi * (sigma.log() / 4).flatten(1) * self.frequencies
        condition = self.mix(torch.cat((angles.cos(), angles.sin()), 1) + self.actions(LOUD * actions.flatten(1)))
        x = self._unet(torch.cat((noisy / total, past.flatten(1, 2) / SIGMA_DATA), 1), condition)
        x = x + self.gain(condition)[:, :, None, None] * noisy / total  # white noise need not pass the narrow U-Net
        return (SIGMA_DATA / total) ** 2 * noisy + sigma * SIGMA_DATA / total * x

    def _unet(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.enter(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for k, block in enumerate(self.down):
            x = block(self.shrink[k - 1](x) if k else x, condition)
            skips.append(x)
        x = self.middle(x, condition)
        for k in reversed(range(len(self.up))):
            x = self.up[k](torch.cat((x, skips[k]), 1), condition)
            x = F.interpolate(self.grow[k - 1](x), scale_factor=2.0) if k else x
        return F.pixel_shuffle(self.leave(F.silu(x)), 2)

    def loss(self, images: Tensor, actions: Tensor) -> Tensor:
        """uint8 (B, context + N, 3, H, W), (B, context + N - 1, 4) → the mean weighted error of the denoised changes.

        The frame that comes of one is the past of the next of the N frames.
        """
        frames = list(to_signed(images).unbind(1))
        errors = []
        for t in range(self.context, len(frames)):
            past = torch.stack(frames[t - self.context : t], 1)
            past = past + torch.rand(len(past), 1, 1, 1, 1) * self.context_noise * torch.randn_like(past)
            sigma = (torch.randn(len(past)) * LOG_SIGMA[1] + LOG_SIGMA[0]).exp()
            change = GAIN * (frames[t] - past[:, -1])
            noisy = change + sigma.view(-1, 1, 1, 1) * torch.randn_like(change)
            clean = self(noisy, sigma, past, actions[:, t - self.context : t])
            weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
            errors.append(weight * (clean - change).square().flatten(1).mean(1))
            frames[t] = (past[:, -1] + clean.detach() / GAIN).clamp(-1, 1)
        return torch.stack(errors).mean()

    @torch.no_grad()
    def sample(self, past: Tensor, actions: Tensor, noise: Tensor, steps: int = 2) -> Tensor:
        """A next frame in [-1, 1], by `steps` Euler steps along the flow from `noise`, standard normal (B, 3, H, W)."""
        levels = sigmas(steps)
        x = noise * levels[0]
        for sigma, following in pairwise([*levels, 0.0]):
            clean = self(x, torch.full((len(x),), sigma), past, actions)
            x = clean + (x - clean) * (following / sigma)
        return (past[:, -1] + x / GAIN).clamp(-1, 1)


class Block(nn.Module):
    """Two convolutions with a shortcut; the condition scales and shifts the norms."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(max(1, n // 16), n, affine=False) for n in (inputs, outputs))
        self.modulate = nn.ModuleList(nn.Linear(condition, 2 * n) for n in (inputs, outputs))
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = x
        for norm, modulate, convolution in zip(self.norms, self.modulate, (self.first, self.second), strict=True):
            scale, shift = modulate(condition)[:, :, None, None].chunk(2, 1)
            y = convolution(F.silu(torch.addcmul(shift, norm(y), 1 + scale)))
        return self.shortcut(x) + y


def sigmas(steps: int) -> list[float]:
    """Noise levels of sampling, falling; equation 5 of Karras et al., of which the last level, almost 0, is 0."""
    first, last, rho = SIGMAS
    share = [k / steps for k in range(steps)]
    return [(first ** (1 / rho) + s * (last ** (1 / rho) - first ** (1 / rho))) ** rho for s in share]


class DiffusionAdapter:
    """The denoiser as a dreamer; `context` frames are seen. All clips of a batch get the same noise, which is that of
    every dream, so that a dream depends on its own context and actions alone."""

    name = "diffusion"

    def __init__(self, model: Denoiser, steps: int = 2) -> None:
        self.model, self.steps = model.eval(), steps
        self.context = model.context

    def reset(self, context: Context) -> None:
        self._device = self.model.frequencies.device
        self._past = to_signed(context.images[:, -self.context :].to(self._device))
        between = context.actions.shape[1] - (self.context - 1)
        self._actions = context.actions[:, between:].to(self._device)
        self._noise = torch.Generator().manual_seed(0)

    def step(self, action: Tensor) -> Tensor:
        actions = torch.cat((self._actions, action.to(self._device)[:, None]), 1)
        noise = torch.randn(self._past.shape[2:], generator=self._noise).to(self._device).expand_as(self._past[:, 0])
        frame = self.model.sample(self._past, actions, noise, self.steps)
        self._past = torch.cat((self._past[:, 1:], frame[:, None]), 1)
        self._actions = actions[:, 1:]
        return to_uint8(frame)


def load(checkpoint: Path, device: torch.device) -> DiffusionAdapter:
    """A folder that `train.py` made → its model, for `evaluate --adapter`."""
    model = Denoiser(**json.loads((checkpoint / "model.json").read_text())["settings"])
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return DiffusionAdapter(model.to(device))
