"""What an evaluation measures only where it is asked for: moments driven again, the report card, long dreams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from daydrive.data.store.store import Store
from daydrive.evaluation import figures as plots
from daydrive.evaluation.card import Memory, long_dream, report_card, road_forks
from daydrive.evaluation.card.long import Moments
from daydrive.evaluation.card.memory import as_json
from daydrive.evaluation.controllability import counterfactual
from daydrive.evaluation.horizon import Dream, Rollout


class Extras(NamedTuple):
    """counterfactual: left, straight, right in the road world. card: the action report card. long: long dreams."""

    counterfactual: bool
    card: bool
    long: bool


def measure_extras(
    wanted: Extras,
    dream: Dream,
    store: Store,
    split: str,
    folder: Path,
    shown: Sequence[Rollout],
    *,
    context: int,
    frame_skip: int,
    seed: int,
) -> dict[str, Any]:
    """For `evaluation.json`; their pictures go into the folder. shown: dreams whose nearest training clips are told."""
    found: dict[str, Any] = {}
    hz = store.clip_hz(frame_skip)
    if wanted.counterfactual:
        found["counterfactual"] = counterfactual(
            dream, store.image_size, context, frame_skip=frame_skip, output=folder, seed=seed
        )
    if wanted.card:
        again = road_forks(store.image_size, context, frame_skip, seed=seed) if store.source == "road" else ()
        memory = Memory(store)
        card = report_card(
            dream, store, split, context=context, frame_skip=frame_skip, seed=seed, moments=again, memory=memory
        )
        recalled = [nearest for nearest in map(memory.recall, shown) if nearest]
        found["card"] = {**card, "nearest_training_clips": [as_json(nearest) for nearest in recalled]}
        if recalled:
            plots.memory_sheet(folder / "memory.png", recalled, hz, store.pixel_aspect)
    if wanted.long:
        moments = Moments()
        found["long_dreams"] = long_dream(dream, store, split, context, frame_skip=frame_skip, watch=moments)
        plots.long_sheet(folder / "long.png", moments.shown, hz, store.pixel_aspect)
    return found
