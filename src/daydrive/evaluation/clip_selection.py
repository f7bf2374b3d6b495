"""Selects the clips of an evaluation."""

from __future__ import annotations

import numpy as np

from daydrive.data.sampling.clips import fixed_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation.metrics.frame_metrics import other_clips
from daydrive.types import Clip


def choose_clips(
    store: Store, split: str, context: int, steps: int, count: int, frame_skip: int, seed: int
) -> tuple[list[Clip], list[str]]:
    """Up to `count` clips of context + steps frames, evenly spaced over a split, and notes on deviations from the
    request.

    Fewer steps are used if no two clips are that long. UserError if the split is empty or its drives are too short.
    """
    drives = store.split(split)
    if not drives:
        present = ", ".join(sorted({drive.split for drive in store.drives}))
        raise UserError(f"the split '{split}' of {store.path} is empty; it has drives in: {present}")

    def available(length: int) -> int:
        span = (context + length - 1) * frame_skip + 1
        return sum(max(0, drive.frames - span + 1) for drive in drives)

    longest = max(drive.frames for drive in drives)
    requested, steps = steps, next((n for n in range(min(steps, longest), 0, -1) if available(n) >= 2), 0)
    if steps == 0:
        raise UserError(
            f"the drives of split '{split}' of {store.path} are too short for two clips of {context} frames of context "
            f"and 1 to predict with frame_skip {frame_skip}; the longest drive has {longest} frames"
        )
    clips = fixed_clips(store, split, context + steps, count, frame_skip)
    notes = []
    if steps < requested:
        notes.append(f"The horizon is {steps} steps instead of {requested}: the drives are too short.")
    if len(clips) < count:
        notes.append(f"There are {len(clips)} clips instead of {count}: the split has no more.")
    same = sum(clips[i].drive == clips[j].drive for i, j in enumerate(other_clips(clips, seed)))
    if same:
        notes.append(f"{same} of {len(clips)} clips are given other actions from their own drive.")
    return clips, notes


def evenly(count: int, of: int) -> list[int]:
    """Up to `count` evenly spaced indices below `of`, ascending, including the first and the last."""
    return [int(i) for i in np.unique(np.linspace(0, of - 1, min(count, of)).round())]
