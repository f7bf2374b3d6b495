"""Checkpoints of untrained models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from daydrive import checkpoint
from daydrive.checkpoint import Contents
from daydrive.models import build_world_model
from daydrive.tensors import gather
from helpers.architectures import config_of


def write_checkpoint(run: Path, architecture: str, image_size: tuple[int, int] = (32, 32), **settings: Any) -> Path:
    """A run folder with a checkpoint of a small model, whose weights are random and none of them zero. settings: of the
    model."""
    torch.manual_seed(0)
    config = config_of(architecture, image_size)
    config = config.model_copy(update={"model": type(config.model)(**{**config.model.model_dump(), **settings})})
    model = build_world_model(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    contents = Contents(gather(model.state_dict()), None, {})
    checkpoint.save(run, 1, contents, config, {}, keep=1, writer=checkpoint.Writer())
    return run
