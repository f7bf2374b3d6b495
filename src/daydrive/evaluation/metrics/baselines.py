"""Baseline predictions that need no trained model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat

import cv2
import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store

MEAN_IMAGE_FRAMES = 256
"""Number of evenly spaced frames over which the mean image is computed."""


def constant_flow(seen: Tensor, steps: int) -> Tensor:
    """Extrapolates the last frame with constant optical flow: context uint8 (C, 3, H, W) → uint8 (steps, 3, H, W)."""
    return torch.stack(list(islice(flow_steps(seen), steps)))


def flow_steps(seen: Tensor) -> Iterator[Tensor]:
    """Yields the frames of `constant_flow` one at a time, uint8 (3, H, W), without end.

    Dense flow (Farnebäck 2003) between the last two frames. Each step samples the last real frame further back along
    the flow, so blur does not accumulate. Outside the frame the border is replicated. A single context frame is copied.
    """
    if len(seen) < 2:
        yield from repeat(seen[-1])
    last = np.ascontiguousarray(seen[-1].movedim(0, -1).numpy())
    before, now = (cv2.cvtColor(np.ascontiguousarray(x.movedim(0, -1).numpy()), cv2.COLOR_RGB2GRAY) for x in seen[-2:])
    flow = cv2.calcOpticalFlowFarneback(
        now, before, np.zeros((*now.shape, 2), np.float32), pyr_scale=0.5, levels=3, winsize=15, iterations=3,
        poly_n=5, poly_sigma=1.1, flags=0,
    )  # fmt: skip
    height, width = now.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    points = step = grid + flow
    while True:
        yield torch.from_numpy(_sample(last, points)).movedim(-1, 0).contiguous()
        points = _sample(points, step)


def _sample(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Samples (H, W, D) bilinearly at points (H, W, 2) in (x, y)."""
    x, y = points[..., 0], points[..., 1]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def mean_image(store: Store, split: str) -> Tensor:
    """The mean frame of the training drives, or of `split` if there are none, uint8 (3, H, W)."""
    drives = store.split("train") or store.split(split)
    rows = np.concatenate([np.arange(drive.start, drive.start + drive.frames) for drive in drives])
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(MEAN_IMAGE_FRAMES, len(rows))).round().astype(np.int64))]
    total = np.zeros((*store.image_size, 3), dtype=np.float64)
    for part in np.array_split(chosen, max(1, len(chosen) // 64)):
        total += read_images(store, part)[0].sum(axis=0, dtype=np.float64)
    return torch.from_numpy((total / len(chosen)).round().astype(np.uint8)).movedim(-1, 0).contiguous()
