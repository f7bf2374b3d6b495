"""The optional parts of an evaluation: counterfactuals, controllability, long rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daydrive.data.store.store import Store
from daydrive.evaluation.config import EvaluateConfig
from daydrive.evaluation.controllability import (
    TrainingIndex,
    measure_long_rollouts,
    road_moments,
    score_controllability,
)
from daydrive.evaluation.controllability.counterfactual import counterfactual
from daydrive.evaluation.controllability.long_rollout import Snapshots
from daydrive.evaluation.controllability.training_index import as_json
from daydrive.evaluation.model_loading import EvaluatedModel
from daydrive.report import plots
from daydrive.types import Rollout


def run_optional_suites(
    config: EvaluateConfig, model: EvaluatedModel, store: Store, folder: Path, shown: Sequence[Rollout]
) -> dict[str, Any]:
    """Runs the suites that `config` asks for; returns their entries for `evaluation.json`, writes images to `folder`.

    shown: rollouts for which the nearest training clips are searched.
    """
    results: dict[str, Any] = {}
    rollout_fn, context, skip, seed = model.rollout_fn, model.context, model.frame_skip, config.seed
    hz = store.clip_hz(skip)
    if config.counterfactual:
        results["counterfactual"] = counterfactual(
            rollout_fn, store.image_size, context, frame_skip=skip, output=folder, seed=seed
        )
    if config.controllability:
        moments = road_moments(store.image_size, context, skip, seed=seed) if store.source == "road" else ()
        index = TrainingIndex(store)
        scores = score_controllability(
            rollout_fn, store, config.split, context=context, frame_skip=skip, seed=seed, moments=moments, index=index
        )
        nearest = [match for match in map(index.match_rollout, shown) if match]
        results["controllability"] = {**scores, "nearest_training_clips": [as_json(match) for match in nearest]}
        if nearest:
            rows = [
                plots.NearestClip(m.rollout.predicted, m.predicted.frames, m.rollout.real, m.predicted.psnr)
                for m in nearest
            ]
            plots.nearest_sheet(folder / "memory.png", rows, hz, store.pixel_aspect)
    if config.long:
        snapshots = Snapshots()
        results["long_dreams"] = measure_long_rollouts(
            rollout_fn, store, config.split, context, frame_skip=skip, callback=snapshots
        )
        plots.long_sheet(folder / "long.png", snapshots.shown, hz, store.pixel_aspect)
    return results
