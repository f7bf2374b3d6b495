"""Small settings of every architecture, for tests that apply to all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from daydrive.checkpoint import RolloutModel
from daydrive.config import Config, parse_config
from daydrive.models import WorldModel, build_world_model
from helpers.tiny_training import TINY_TRAINING

ARCHITECTURES = ("texture", "rssm", "diffusion")

MODELS: dict[str, dict[str, Any]] = {
    "texture": {**TINY_TRAINING["model"], "type": "texture"},
    "rssm": {
        "type": "rssm", "channels": [8, 8, 8, 8], "recurrent_dim": 32, "hidden_dim": 32, "groups": 4, "classes": 4,
    },
    "diffusion": {"type": "diffusion", "channels": [8, 16], "condition_dim": 16},
}  # fmt: skip


def settings(architecture: str, **training: Any) -> dict[str, Any]:
    """Settings that train in seconds."""
    rate = {"texture": 3e-3}.get(architecture, 2e-3)
    return {
        **TINY_TRAINING,
        "model": MODELS[architecture],
        "training": {**TINY_TRAINING["training"], **training},
        "optimizer": {"type": "muon" if architecture == "texture" else "adamw", "lr": rate},
    }


def config_of(architecture: str, image_size: tuple[int, int] = (32, 48), **training: Any) -> Config:
    tree = settings(architecture, **training)
    return parse_config({**tree, "model": {**tree["model"], "image_size": image_size}})


def built(architecture: str, spread: float | None = None, image_size: tuple[int, int] = (32, 48)) -> WorldModel:
    """spread: all weights are drawn anew, so that none is zero as initialized; those of the RSSM are four times
    larger, because its variables depend little on small weights."""
    torch.manual_seed(0)
    model = build_world_model(config_of(architecture, image_size)).eval()
    if spread is not None:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=4 * spread if architecture == "rssm" else spread)
    return model


def rollout_model(architecture: str, image_size: tuple[int, int] = (64, 64)) -> RolloutModel:
    """An untrained model that reacts to actions and, if it samples, to noise."""
    config = config_of(architecture, image_size)
    return RolloutModel(built(architecture, 0.2, image_size), config, 0, Path(architecture))


def write_config(folder: Path, architecture: str, **training: Any) -> Path:
    file = folder / f"{architecture}.yaml"
    file.write_text(yaml.safe_dump(settings(architecture, **training)))
    return file


def clip(size: tuple[int, int] = (32, 48), frames: int = 7, clips: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, T, 3, H, W) in [-1, 1] and actions (B, T-1, 4)."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand((clips, frames, 3, *size), generator=generator) * 2 - 1
    return images, torch.rand((clips, frames - 1, 4), generator=generator)
