"""Speed, memory and numerical stability of a long rollout."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn

from daydrive.benchmarks.model.scene import REAL_TIME_HZ, swaying_actions
from daydrive.models import Predictor
from daydrive.models.rollout import rollout_frames

_EDGE = 100
_MEGABYTE = 2**20


def rollout_speed(
    model: Predictor,
    image_size: tuple[int, int],
    frames: int = 1000,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Roll out `frames` frames (at least 2) with batch size 1, from noise images and sinusoidal steering.

    A frame is complete when it is on the CPU, as for a viewer.
    `fps_first`, `fps_last`: frames per second over the first and last 100 (at most half of `frames`); `flatness`: last
    over first. `real_time`: speed relative to 10 Hz. `latency_ms_p50`, `latency_ms_p99`: of one frame. `finite`,
    `in_range` ([-1, 1]): whether all frames were. `peak_rss_mb`: resident memory of the process; `rss_growth_mb`: its
    growth after the first frames. `peak_device_mb`: on CUDA, else None.
    """
    if frames < 2:
        raise ValueError(f"at least 2 frames are needed, not {frames}")
    device = torch.device(device)
    edge = min(_EDGE, frames // 2)
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand((1, model.context_frames, 3, *image_size), generator=generator).mul_(2).sub_(1).to(device)
    process = psutil.Process()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if isinstance(model, nn.Module):
        model.eval()
    seconds, memory = np.zeros(frames), np.zeros(frames)
    finite = in_range = True
    predicted = rollout_frames(model, seen, swaying_actions(model.context_frames - 1 + frames).to(device))
    for i in range(frames):
        began = time.perf_counter()
        image = next(predicted).cpu()
        seconds[i] = time.perf_counter() - began
        memory[i] = process.memory_info().rss / _MEGABYTE
        finite = finite and bool(image.isfinite().all())
        in_range = in_range and bool(((image >= -1) & (image <= 1)).all())
    total = float(seconds.sum())
    first, last = edge / float(seconds[:edge].sum()), edge / float(seconds[-edge:].sum())
    return {
        "frames": frames,
        "image_size": list(image_size),
        "device": str(device),
        "fps": frames / total,
        "fps_first": first,
        "fps_last": last,
        "flatness": last / first,
        "real_time": frames / total / REAL_TIME_HZ,
        "latency_ms_p50": float(np.percentile(seconds, 50)) * 1e3,
        "latency_ms_p99": float(np.percentile(seconds, 99)) * 1e3,
        "finite": finite,
        "in_range": in_range,
        "peak_rss_mb": float(memory.max()),
        "rss_growth_mb": float(memory[edge:].max() - memory[edge - 1]),
        "peak_device_mb": torch.cuda.max_memory_allocated(device) / _MEGABYTE if device.type == "cuda" else None,
    }
