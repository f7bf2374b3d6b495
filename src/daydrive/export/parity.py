"""Compares an exported model with the model in PyTorch: frames of long rollouts, PSNR against real frames, latency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from daydrive.errors import UserError
from daydrive.export.clips import ExportClips
from daydrive.metrics import psnr
from daydrive.models import Predictor
from daydrive.types import to_signed, to_uint8

STEPS = 50
SHOWN_STEPS = (1, 5, 10, 30, 50)
TOLERANCE = 2 / 255
"""Maximum difference of float32 images in [-1, 1]: one level of 8 bits."""
MAX_LOSS = 0.3
"""dB of PSNR that weights of lower precision may cost at any of `SHOWN_STEPS`."""
WARM_UP, TIMED = 3, 30


def compare(model: Predictor, exported: Predictor, clips: ExportClips) -> dict[str, Any]:
    """Rollouts of `STEPS` steps with both models.

    psnr: against the real frames, mean over clips in dB, where the clips are that long. max_difference,
    mean_difference: between images in [-1, 1]. After the end of a clip its actions are repeated.
    """
    context = model.context_frames
    real = clips.images[:, context:]
    rows: list[dict[str, Any]] = []
    worst = 0.0
    for step, (ours, theirs) in enumerate(zip(*(_frames(m, clips) for m in (model, exported)), strict=True), start=1):
        difference = (ours - theirs).abs()
        worst = max(worst, float(difference.nan_to_num(torch.inf).max()))
        if step not in SHOWN_STEPS:
            continue
        row = {"step": step, "max_difference": worst, "mean_difference": float(difference.mean())}
        if step <= real.shape[1]:
            truth = real[:, step - 1]
            row["psnr_torch"], row["psnr_exported"] = (
                float(psnr(to_uint8(frames), truth, 255.0).mean()) for frames in (ours, theirs)
            )
        rows.append(row)
    return {"steps": STEPS, "clips": len(clips.images), "source": clips.source, "rows": rows}


def check(parity: dict[str, Any], precision: str) -> None:
    """Raise UserError if the exported model differs more than its precision allows."""
    rows = parity["rows"]
    if precision == "float32":
        difference = rows[-1]["max_difference"]
        if not difference <= TOLERANCE:
            raise UserError(
                f"the exported model is not the same: after {rows[-1]['step']} steps its images in [-1, 1] differ by "
                f"{difference:.2g} from PyTorch's, more than {TOLERANCE:.2g}"
            )
        return
    losses = {row["step"]: row["psnr_torch"] - row["psnr_exported"] for row in rows if "psnr_torch" in row}
    step = max(losses, key=lambda step: np.nan_to_num(losses[step], nan=np.inf))
    if not losses[step] <= MAX_LOSS:
        better = "float16 or float32" if precision == "int8" else "float32"
        raise UserError(
            f"weights in {precision} cost {losses[step]:.2f} dB of PSNR at step {step}, more than {MAX_LOSS:g}; use "
            f"--precision {better}"
        )


def latency(model: Predictor, exported: Predictor, clips: ExportClips) -> dict[str, Any]:
    """Milliseconds per step of one clip with one thread, both models in turn, median and 95th percentile."""
    one = clips._replace(images=clips.images[:1], actions=clips.actions[:1])
    timed: dict[str, list[float]] = {"torch": [], "exported": []}
    with _one_thread():
        runs = {name: _frames(m, one) for name, m in (("torch", model), ("exported", exported))}
        for _ in range(WARM_UP):
            for frames in runs.values():
                next(frames)
        for _ in range(TIMED):
            for name, frames in runs.items():
                began = time.perf_counter()
                next(frames)
                timed[name].append(1000 * (time.perf_counter() - began))
    return {"threads": 1, "clips": 1, **{name: _percentiles(values) for name, values in timed.items()}}


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(values, (50, 95)).round(2).tolist()
    return {"p50": p50, "p95": p95}


@torch.no_grad()
def _frames(model: Predictor, clips: ExportClips) -> Iterator[Tensor]:
    """`STEPS` predicted frames, (B, 3, H, W) in [-1, 1]."""
    context = model.context_frames
    past, future = clips.actions[:, : context - 1], clips.actions[:, context - 1 :]
    state = model.init_state(to_signed(clips.images[:, :context]), past)
    for step in range(STEPS):
        state, frame = model.step(state, future[:, step % future.shape[1]])
        yield frame.clamp(-1, 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
