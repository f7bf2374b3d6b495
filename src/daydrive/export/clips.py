"""Clips that an export is measured on and that its start moments come from."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.checkpoint import RolloutModel
from daydrive.data.sampling.clips import combine, read_clips
from daydrive.data.store.store import Store
from daydrive.envs.road import drive
from daydrive.envs.road.camera import check_image_size
from daydrive.envs.road.env import HZ
from daydrive.errors import UserError
from daydrive.evaluation.clip_selection import choose_clips
from daydrive.evaluation.model_loading import check_fit

FIRST_SEED = 5_000_011
"""Of the road world's drives; training data uses small seeds."""
SETTLED = 40
"""Frames after which a drive of the road world is under way."""


class ExportClips(NamedTuple):
    """images: uint8 (B, C+N, 3, H, W); actions: float32 (B, C+N-1, 4); hz: their rate; pixel_aspect: width / height
    of their pixels; source: where they come from, for reports."""

    images: Tensor
    actions: Tensor
    hz: float
    pixel_aspect: float
    source: str


def read(loaded: RolloutModel, data_root: Path | None, split: str, count: int, steps: int) -> ExportClips:
    """Up to `count` clips with up to `steps` frames after the context: of a store's split, or of the road world.

    Raises UserError if the store's images and actions, or the road world's, are not the model's.
    """
    if data_root is None:
        return _of_the_road_world(loaded, count, steps)
    store, skip = Store.open(data_root), loaded.frame_skip
    check_fit(loaded, store)
    chosen, _ = choose_clips(store, split, loaded.context_frames, steps, max(2, count), skip, seed=0)  # at least two
    batch = read_clips(store, chosen[:count])
    images = batch.images.contiguous()
    return ExportClips(images, batch.actions, store.clip_hz(skip), store.pixel_aspect, f"{store.path.name}, {split}")


def _of_the_road_world(loaded: RolloutModel, count: int, steps: int) -> ExportClips:
    size, skip = loaded.image_size, loaded.frame_skip
    assert size is not None, "training sets it from the store"
    try:
        check_image_size(size)
    except UserError as error:
        raise UserError(f"{error}; name a store with images like the model's by --data-root") from None
    length = (loaded.context_frames + steps - 1) * skip + 1
    images, actions = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        frames = list(islice(drive(seed, SETTLED + length, size), SETTLED, None))
        images.append(np.stack([frame for frame, _, _ in frames[::skip]]))
        actions.append(np.stack([action for _, action, _ in frames[:-1]]))
    pixels = torch.from_numpy(np.stack(images)).movedim(-1, -3).contiguous()
    return ExportClips(pixels, torch.from_numpy(combine(np.stack(actions), skip)), HZ / skip, 1.0, "road world")
