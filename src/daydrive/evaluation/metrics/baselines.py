"""What a model has to beat: predictions that need no learning."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat

import cv2
import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store

MEAN_OF = 256
"""Frames, evenly chosen, that the mean image is the mean of."""


def constant_flow(seen: Tensor, steps: int) -> Tensor:
    """The last frame moved on and on as it moved last: uint8 (C, 3, H, W) → (steps, 3, H, W)."""
    return torch.stack(list(islice(flow_steps(seen), steps)))


def flow_steps(seen: Tensor) -> Iterator[Tensor]:
    """The same frame by frame, uint8 (3, H, W), without end.

    Dense flow (Farnebäck 2003) between the last two frames; each step looks further back along it into the last
    real frame, so nothing blurs. What would come into view repeats the border. One frame alone is copied.
    """
    if len(seen) < 2:
        yield from repeat(seen[-1])
    last = np.ascontiguousarray(seen[-1].movedim(0, -1).numpy())
    before, now = (cv2.cvtColor(np.ascontiguousarray(x.movedim(0, -1).numpy()), cv2.COLOR_RGB2GRAY) for x in seen[-2:])
    back = cv2.calcOpticalFlowFarneback(
        now, before, np.zeros((*now.shape, 2), np.float32), pyr_scale=0.5, levels=3, winsize=15, iterations=3,
        poly_n=5, poly_sigma=1.1, flags=0,
    )  # fmt: skip
    height, width = now.shape
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    point = step = here + back
    while True:
        yield torch.from_numpy(_sample(last, point)).movedim(-1, 0).contiguous()
        point = _sample(point, step)


def _sample(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(H, W, D) at (x, y) points (H, W, 2), bilinear."""
    x, y = points[..., 0], points[..., 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def mean_image(store: Store, split: str) -> Tensor:
    """The mean of up to `MEAN_OF` frames of the training drives, uint8 (3, H, W); of `split` where there are none."""
    drives = store.split("train") or store.split(split)
    rows = np.concatenate([np.arange(drive.start, drive.start + drive.frames) for drive in drives])
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(MEAN_OF, len(rows))).round().astype(np.int64))]
    total = np.zeros((*store.image_size, 3), dtype=np.float64)
    for part in np.array_split(chosen, max(1, len(chosen) // 64)):
        total += read_images(store, part)[0].sum(axis=0, dtype=np.float64)
    return torch.from_numpy((total / len(chosen)).round().astype(np.uint8)).movedim(-1, 0).contiguous()
