"""Registry of model architectures by name (`model.type`): built-in, and from other packages by entry points."""

from __future__ import annotations

import torch

from daydrive.config import ARCHITECTURES, Config, ModelConfig
from daydrive.errors import UserError
from daydrive.models.interface import WorldModel

DEFAULT_IMAGE_SIZE = (256, 256)
DEFAULT_CONTEXT = 4


def names() -> list[str]:
    """Names of all architectures, built-in ones first; imports none of them."""
    return ARCHITECTURES.names()


def architecture(name: str) -> type[WorldModel]:
    """The class of an architecture.

    Raises UserError for an unknown name (suggesting the nearest), and if a package registers something else under it.
    """
    who, found = ARCHITECTURES.find(name)
    if not (isinstance(found, type) and issubclass(found, WorldModel)):
        raise UserError(f"{who} is invalid: {found!r} is not a subclass of daydrive.models.WorldModel")
    return found


def build_world_model(config: Config | ModelConfig) -> WorldModel:
    """An untrained model for a config and images of `model.image_size` (default: 256x256).

    Raises UserError if the settings do not fit that size.
    """
    settings = config.model if isinstance(config, Config) else config
    context_frames = config.training.context_frames if isinstance(config, Config) else DEFAULT_CONTEXT
    model = architecture(settings.type)(settings, settings.image_size or DEFAULT_IMAGE_SIZE, context_frames)
    if isinstance(config, Config) and config.training.use_gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
