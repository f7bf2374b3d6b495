"""What is evaluated: a daydrive checkpoint, or anyone's model behind its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from daydrive.checkpoint import WEIGHTS, RolloutModel, load
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation.adapter import load_adapter
from daydrive.evaluation.manifest import file_hash
from daydrive.evaluation.metrics.frame_metrics import Dream
from daydrive.models import Predictor
from daydrive.models.rollout import rollout_uint8
from daydrive.types import ACTION_NAMES


class EvaluatedModel(NamedTuple):
    """dream: its frames from `context` ones that are `frame_skip` apart; weights: the file that tells it from others;
    about: what the report says of it."""

    dream: Dream
    context: int
    frame_skip: int = 1
    weights: Path | None = None
    about: dict[str, Any] = {}  # noqa: RUF012


def find_model(
    checkpoint: Path, adapter: str | None, store: Store, device: torch.device, seed: int = 0
) -> EvaluatedModel:
    """As `load_model`, ready to be evaluated; seed: of what the model samples."""
    loaded = load_model(checkpoint, adapter, store, device)
    return EvaluatedModel(
        bind(loaded.model, seed),
        loaded.context_frames,
        loaded.frame_skip,
        weights_file(loaded),
        describe(loaded, adapter),
    )


def load_model(checkpoint: Path, adapter: str | None, store: Store, device: torch.device) -> RolloutModel:
    """UserError where it can't be loaded or was made for other images or actions than the store's."""
    if adapter is not None:
        adapted = load_adapter(adapter, checkpoint, device)
        return RolloutModel(adapted, None, None, checkpoint, adapted.name)
    loaded = load(checkpoint, device)
    check_fit(loaded, store)
    return loaded


def weights_file(loaded: RolloutModel) -> Path | None:
    """The file that tells a model from others; None where an adapter loads something else."""
    return next((file for file in (loaded.path, loaded.path / WEIGHTS) if file.is_file()), None)


def describe(loaded: RolloutModel, adapter: str | None) -> dict[str, Any]:
    """What the report says of it."""
    about = {"checkpoint": str(loaded.path), "name": loaded.name}
    if adapter is None:
        return {**about, "training_step": loaded.step}
    return {**about, "adapter": adapter, "adapter_code": file_hash(Path(adapter.rpartition(":")[0]))}


def bind(model: Predictor, seed: int = 0) -> Dream:
    """Its rollouts from and to uint8 on the processor; seed: of what it samples."""
    return lambda context, actions: rollout_uint8(model, context, actions, seed).cpu()


def check_fit(loaded: RolloutModel, store: Store) -> None:
    """UserError where the model was made for other images or actions than the store's."""
    size = loaded.image_size
    actions = len(ACTION_NAMES) if loaded.config is None else loaded.config.model.action_dim
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
