"""What is evaluated: a daydrive checkpoint, or anyone's model behind its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from daydrive.checkpoint import WEIGHTS, LoadedModel, load
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation.adapter import as_dream, load_adapter
from daydrive.evaluation.manifest import file_hash
from daydrive.evaluation.metrics.frame_metrics import Dream
from daydrive.models import WorldModel
from daydrive.models.rollout import rollout_uint8
from daydrive.types import ACTION_NAMES


class EvaluatedModel(NamedTuple):
    """dream, seen with `context` frames that are `frame_skip` apart; weights: the file that tells it from others;
    about: what the report says of it."""

    dream: Dream
    context: int
    frame_skip: int = 1
    weights: Path | None = None
    about: dict[str, Any] = {}  # noqa: RUF012


def find_model(checkpoint: Path, adapter: str | None, store: Store, device: torch.device) -> EvaluatedModel:
    """UserError where it can't be loaded or was made for other pictures or actions than the store's."""
    if adapter is not None:
        foreign = load_adapter(adapter, checkpoint, device)
        weights = next((file for file in (checkpoint, checkpoint / WEIGHTS) if file.is_file()), None)
        about = {"checkpoint": str(checkpoint), "name": foreign.name, "adapter": adapter}
        about["adapter_code"] = file_hash(Path(adapter.rpartition(":")[0]))
        return EvaluatedModel(as_dream(foreign), foreign.context, 1, weights, about)
    loaded = load(checkpoint, device)
    check_fit(loaded, store)
    return EvaluatedModel(
        bind(loaded.model),
        loaded.config.training.context_frames,
        loaded.config.data.frame_skip,
        loaded.path / WEIGHTS,
        {"checkpoint": str(loaded.path), "name": loaded.name, "training_step": loaded.step},
    )


def bind(model: WorldModel) -> Dream:
    """A world model as a `Dream`."""
    return lambda context, actions: rollout_uint8(model, context, actions).cpu()


def check_fit(loaded: LoadedModel, store: Store) -> None:
    """UserError where the model was made for other pictures or actions than the store's."""
    size, actions = loaded.config.model.image_size, loaded.config.model.action_dim
    if size is not None and tuple(size) != store.image_size:
        raise UserError(
            f"the model {loaded.path} sees pictures of {size[0]}x{size[1]} and the store {store.path} has "
            f"{store.image_size[0]}x{store.image_size[1]}; prepare the store with --image-size {size[0]} {size[1]}"
        )
    if actions != len(ACTION_NAMES):
        raise UserError(
            f"the model {loaded.path} takes actions of {actions} numbers and the store {store.path} has "
            f"{len(ACTION_NAMES)} ({', '.join(ACTION_NAMES)})"
        )
