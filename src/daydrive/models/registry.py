"""Model architectures by name, `model.type` in a config: daydrive's own, and those that other packages register."""

from __future__ import annotations

import torch

from daydrive.config import ARCHITECTURES, Config, ModelConfig
from daydrive.errors import UserError
from daydrive.models.interface import WorldModel

DEFAULT_IMAGE_SIZE = (256, 256)
DEFAULT_CONTEXT = 4


def names() -> list[str]:
    """Of all architectures, daydrive's own first; nothing is loaded."""
    return ARCHITECTURES.names()


def architecture(name: str) -> type[WorldModel]:
    """UserError with the nearest name where there is none, and where a package registers something else under it."""
    label, found = ARCHITECTURES.find(name)
    if not (isinstance(found, type) and issubclass(found, WorldModel)):
        raise UserError(f"{label} is invalid: {found!r} is not a subclass of daydrive.models.WorldModel")
    return found


def build_world_model(config: Config | ModelConfig) -> WorldModel:
    """The model of a config, for images of `model.image_size` (256x256 where it is not set), with fresh weights.

    Raises UserError where the settings don't fit that size.
    """
    settings = config.model if isinstance(config, Config) else config
    context_frames = config.training.context_frames if isinstance(config, Config) else DEFAULT_CONTEXT
    model = architecture(settings.type)(settings, settings.image_size or DEFAULT_IMAGE_SIZE, context_frames)
    if isinstance(config, Config) and config.training.use_gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
