"""Scores each frame of a store by a model's prediction error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from daydrive.checkpoint import RolloutModel
from daydrive.data.quality.scores import Scores
from daydrive.data.sampling.clips import combine, read_images
from daydrive.data.store.store import DriveInfo, Store
from daydrive.models.rollout import rollout_uint8

BATCH = 32
"""Number of frames predicted at a time."""


def meaning(loaded: RolloutModel) -> str:
    """The description of the score column in the store's metadata."""
    return f"mean absolute error of {loaded.name} one frame ahead, 0 to 255"


def prediction_error(store: Store, loaded: RolloutModel, drive: DriveInfo) -> Iterator[Scores]:
    """Yields the mean absolute error, 0 to 255, of each frame predicted one step ahead from the real frames before it.

    Context and frame_skip are those of the model's training. The first frames, without a full context, get NaN.
    """
    context, skip = loaded.context_frames, loaded.frame_skip
    before = context * skip
    yield np.full(min(before, drive.frames), np.nan, dtype=np.float32)
    for first in range(before, drive.frames, BATCH):
        count = min(BATCH, drive.frames - first)
        read, actions = read_images(store, drive.start + first - before + np.arange(before + count))
        each = np.arange(count)[:, None]
        images = torch.from_numpy(read[each + skip * np.arange(context + 1)]).movedim(-1, 2)
        between = torch.from_numpy(combine(actions[each + np.arange(before)], skip))
        predicted = rollout_uint8(loaded.model, images[:, :context], between)[:, 0].cpu()
        yield (predicted.short() - images[:, context].short()).abs().float().mean(dim=(1, 2, 3)).numpy()
