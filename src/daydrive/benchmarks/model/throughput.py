"""Frames per second by batch size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from daydrive.benchmarks.interleaved_timing import Effort, time_interleaved
from daydrive.benchmarks.model.scene import Scene, swaying_actions
from daydrive.models.rollout import Session

BATCHES = (1, 4, 16)


def frames_per_second(
    session: Session, scene: Scene, batches: Sequence[int], effort: Effort, device: torch.device
) -> list[dict[str, Any]]:
    """One entry per batch size, from the shortest and the median step; `reason` if the device runs out of memory."""
    return [_of_batch(session, scene, batch, effort, device) for batch in batches]


def _of_batch(session: Session, scene: Scene, batch: int, effort: Effort, device: torch.device) -> dict[str, Any]:
    entry: dict[str, Any] = {"batch": batch, "image_size": list(scene.image_size)}
    action = swaying_actions(1)[:, 0].expand(batch, -1).contiguous()
    try:
        session.reset(*scene.context(session.model.context_frames, batch))
        seconds = sorted(time_interleaved({"step": partial(_step, session, action)}, effort, device)["step"])
    except torch.OutOfMemoryError:
        return entry | {"reason": "the device has not enough memory"}
    return entry | {
        "frames_per_second": batch / seconds[0],
        "frames_per_second_median": batch / seconds[len(seconds) // 2],
        "steps_timed": len(seconds),
    }


def _step(session: Session, action: torch.Tensor) -> None:
    session.step(action).cpu()
