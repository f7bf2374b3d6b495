"""Which clips are evaluated, and of which the frames are kept."""

from __future__ import annotations

import numpy as np

from daydrive.data.sampling.clips import fixed_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.evaluation.metrics.frame_metrics import other_clips
from daydrive.types import Clip


def choose_clips(
    store: Store, split: str, context: int, horizon: int, count: int, frame_skip: int, seed: int
) -> tuple[list[Clip], list[str]]:
    """Clips of context + horizon frames spread evenly over a split, and notes on what is not as asked for."""
    drives = store.split(split)
    if not drives:
        there = ", ".join(sorted({drive.split for drive in store.drives}))
        raise UserError(f"the split '{split}' of {store.path} is empty; it has drives in: {there}")

    def available(steps: int) -> int:
        span = (context + steps - 1) * frame_skip + 1
        return sum(max(0, drive.frames - span + 1) for drive in drives)

    longest = max(drive.frames for drive in drives)
    steps = next((n for n in range(min(horizon, longest), 0, -1) if available(n) >= 2), 0)
    if steps == 0:
        raise UserError(
            f"the drives of split '{split}' of {store.path} are too short: {context} frames of context and 1 to "
            f"predict, {frame_skip} apart, don't fit twice; the longest has {longest} frames"
        )
    clips = fixed_clips(store, split, context + steps, count, frame_skip)
    notes = []
    if steps < horizon:
        notes.append(f"The horizon is {steps} steps, not {horizon}: the drives are not longer.")
    if len(clips) < count:
        notes.append(f"There are {len(clips)} clips, not {count}: the split has no more.")
    same = sum(clips[i].drive == clips[j].drive for i, j in enumerate(other_clips(clips, seed)))
    if same:
        notes.append(f"{same} of {len(clips)} clips borrow actions from their own drive.")
    return clips, notes


def evenly(count: int, of: int) -> list[int]:
    """Up to `count` numbers below `of`, from the first to the last, ascending."""
    return [int(i) for i in np.unique(np.linspace(0, of - 1, min(count, of)).round())]
