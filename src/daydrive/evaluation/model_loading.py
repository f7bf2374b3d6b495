"""Loads the model to evaluate: a daydrive checkpoint, or another model through its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from daydrive.checkpoint import WEIGHTS, RolloutModel, check_fit, load
from daydrive.data.store.store import Store
from daydrive.evaluation.adapter import load_adapter
from daydrive.evaluation.manifest import file_hash
from daydrive.evaluation.metrics.frame_metrics import RolloutFunction
from daydrive.evaluation.sampled_futures import SampleFunction
from daydrive.models import Predictor
from daydrive.models.rollout import Seed, rollout_uint8


class EvaluatedModel(NamedTuple):
    """A model as the evaluation uses it.

    rollout_fn: predicts from `context` frames that are `frame_skip` apart, all clips of a batch with the same random
    numbers, so that variants of a moment can be compared. weights: the file that identifies the model, None if there is
    none. about: entries about the model for `evaluation.json`. sample_fn: predicts with given seeds, None for a model
    that cannot be seeded. clip_fn: like rollout_fn, with random numbers of its own for each clip of a batch; by default
    rollout_fn.
    """

    rollout_fn: RolloutFunction
    context: int
    frame_skip: int = 1
    weights: Path | None = None
    about: dict[str, Any] = {}  # noqa: RUF012
    sample_fn: SampleFunction | None = None
    clip_fn: RolloutFunction | None = None


def find_model(
    checkpoint: Path, adapter: str | None, store: Store, device: torch.device, seed: int | None = 0
) -> EvaluatedModel:
    """Loads a model with `load_model`, ready to be evaluated. seed: of the model's sampling; None: without random
    numbers."""
    loaded = load_model(checkpoint, adapter, store, device)
    sample_fn = None if adapter else make_sample_fn(loaded.model)
    return EvaluatedModel(
        make_rollout_fn(loaded.model, seed),
        loaded.context_frames,
        loaded.frame_skip,
        weights_file(loaded),
        {**describe(loaded, adapter), "deterministic": seed is None},
        sample_fn,
        None if sample_fn is None or seed is None else _seeded_by_row(sample_fn, seed),
    )


def load_model(checkpoint: Path, adapter: str | None, store: Store, device: torch.device) -> RolloutModel:
    """Loads a checkpoint, through the adapter `FILE.py:NAME` if one is given.

    UserError if it cannot be loaded, or if it expects other images or actions than the store's.
    """
    if adapter is not None:
        adapted = load_adapter(adapter, checkpoint, device)
        return RolloutModel(adapted, None, None, checkpoint, adapted.name)
    loaded = load(checkpoint, device)
    check_fit(loaded, store)
    return loaded


def weights_file(loaded: RolloutModel) -> Path | None:
    """The file with the model's weights; None if an adapter loads something else than a file."""
    return next((file for file in (loaded.path, loaded.path / WEIGHTS) if file.is_file()), None)


def describe(loaded: RolloutModel, adapter: str | None) -> dict[str, Any]:
    """Entries about the model for `evaluation.json`."""
    about = {"checkpoint": str(loaded.path), "name": loaded.name}
    if adapter is None:
        return {**about, "training_step": loaded.step}
    return {**about, "adapter": adapter, "adapter_code": file_hash(Path(adapter.rpartition(":")[0]))}


def make_rollout_fn(model: Predictor, seed: Seed = 0) -> RolloutFunction:
    """Binds a model to `rollout_uint8`, with the frames returned on the CPU. seed: of the model's sampling."""
    return lambda context, actions: rollout_uint8(model, context, actions, seed).cpu()


def _seeded_by_row(sample_fn: SampleFunction, first: int) -> RolloutFunction:
    return lambda context, actions: sample_fn(context, actions, range(first, first + len(context)))


def make_sample_fn(model: Predictor) -> SampleFunction:
    """Binds a model to `rollout_uint8`, with the frames returned on the CPU."""
    return lambda context, actions, seeds: rollout_uint8(model, context, actions, seeds).cpu()
