"""Probes of the settings of the architectures other than the default."""

from __future__ import annotations

import torch

from daydrive.config import Config
from daydrive.models import WorldModel, build_world_model
from daydrive.models.diffusion import Diffusion
from daydrive.models.rssm import RSSM
from helpers.probes import Probe, differs, gives


def built(config: Config) -> WorldModel:
    torch.manual_seed(0)
    return build_world_model(config).eval()


def clip() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 6, 3, 64, 64, generator=generator) * 2 - 1
    return images, torch.rand(1, 5, 4, generator=generator)


def rssm(config: Config) -> RSSM:
    model = built(config)
    assert isinstance(model, RSSM)
    return model


def diffusion(config: Config) -> Diffusion:
    model = built(config)
    assert isinstance(model, Diffusion)
    return model


@torch.no_grad()
def sizes_of_the_state(config: Config) -> list[int]:
    images, actions = clip()
    return [part.shape[1] for part in rssm(config).init_state(images, actions)]


def widths_of_the_head(config: Config) -> int:
    return rssm(config).dynamics.prior[0].out_features


def widths_of_both_ways(config: Config) -> list[list[int]]:
    model = rssm(config)
    down = [stage[0].out_channels for stage in model.encoder.stages]
    return [down, [stage[0].in_channels for stage in model.decoder.stages] + [model.decoder.out_proj.in_channels]]


def widths_of_the_unet(config: Config) -> list[list[int]]:
    model = diffusion(config)
    return [
        [block.conv1.in_channels for block in model.encoder.blocks],
        [b.conv2.out_channels for b in model.decoder.blocks],
    ]


@torch.no_grad()
def width_of_the_condition(config: Config) -> int:
    return diffusion(config).dynamics.condition(torch.ones(1), torch.zeros(1, 4, 4)).shape[1]


@torch.no_grad()
def noise_on_the_context(config: Config) -> float:
    """The largest difference between the context frames and the input of the denoiser."""
    model, seen = diffusion(config), []
    images, actions = clip()
    denoise = model.denoise
    model.denoise = lambda noisy, sigma, past, did: (seen.append(past), denoise(noisy, sigma, past, did))[1]  # type: ignore[method-assign]
    torch.manual_seed(0)
    model.loss(images[:, :5], actions[:, :4], config.loss, lambda a, b: a.new_zeros(len(a)))
    return float((seen[0] - images[:, :4]).std())


@torch.no_grad()
def calls_for_a_frame(config: Config) -> int:
    model, calls = diffusion(config), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    images, actions = clip()
    model.step(model.init_state(images, actions), actions[:, -1])
    return len(calls)


PROBES: dict[tuple[str, str], Probe] = {
    ("rssm", "model.channels"): gives(
        widths_of_both_ways, {"[8, 12]": [[8, 12], [12, 8]], "[4, 6, 8]": [[4, 6, 8], [8, 6, 4]]}
    ),
    ("rssm", "model.recurrent_dim"): gives(sizes_of_the_state, {"16": [16, 512], "24": [24, 512]}),
    ("rssm", "model.hidden_dim"): gives(widths_of_the_head, {"16": 16, "24": 24}),
    ("rssm", "model.groups"): gives(sizes_of_the_state, {"4": [256, 64], "8": [256, 128]}),
    ("rssm", "model.classes"): gives(sizes_of_the_state, {"4": [256, 128], "8": [256, 256]}),
    ("diffusion", "model.channels"): gives(
        widths_of_the_unet, {"[16, 32]": [[16, 32], [16, 32]], "[8, 16, 32]": [[8, 16, 32], [8, 16, 32]]}
    ),
    ("diffusion", "model.condition_dim"): gives(width_of_the_condition, {"16": 16, "32": 32}),
    ("diffusion", "model.context_noise"): differs(noise_on_the_context, ["0.0", "0.05", "0.5"]),
    ("diffusion", "model.sampling_steps"): gives(calls_for_a_frame, {"1": 1, "3": 3}),
}
"""By architecture and key."""
