"""What an evaluation measures only where it is asked for: counterfactuals, controllability, long rollouts."""

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
    """For `evaluation.json`; their images go into the folder. shown: rollouts whose nearest training clips are told."""
    found: dict[str, Any] = {}
    dream, context, skip, seed = model.dream, model.context, model.frame_skip, config.seed
    hz = store.clip_hz(skip)
    if config.counterfactual:
        found["counterfactual"] = counterfactual(
            dream, store.image_size, context, frame_skip=skip, output=folder, seed=seed
        )
    if config.controllability:
        moments = road_moments(store.image_size, context, skip, seed=seed) if store.source == "road" else ()
        index = TrainingIndex(store)
        scores = score_controllability(
            dream, store, config.split, context=context, frame_skip=skip, seed=seed, moments=moments, index=index
        )
        nearest = [each for each in map(index.nearest_to, shown) if each]
        found["controllability"] = {**scores, "nearest_training_clips": [as_json(each) for each in nearest]}
        if nearest:
            rows = [
                plots.NearestClip(each.rollout.predicted, each.predicted.frames, each.rollout.real, each.predicted.psnr)
                for each in nearest
            ]
            plots.nearest_sheet(folder / "memory.png", rows, hz, store.pixel_aspect)
    if config.long:
        snapshots = Snapshots()
        found["long_dreams"] = measure_long_rollouts(
            dream, store, config.split, context, frame_skip=skip, watch=snapshots
        )
        plots.long_sheet(folder / "long.png", snapshots.shown, hz, store.pixel_aspect)
    return found
