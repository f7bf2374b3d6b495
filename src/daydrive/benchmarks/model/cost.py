"""FLOPs, weights and memory of a rollout."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from daydrive.benchmarks.interleaved_timing import peak_bytes
from daydrive.benchmarks.model.candidates import Candidate, modules
from daydrive.benchmarks.model.scene import Scene, swaying_actions
from daydrive.machine import peak_rss
from daydrive.models.rollout import Session

FRAMES = 8
"""Steps of the rollout whose memory is measured."""

COUNTED = "convolutions, matrix products and attention; 2 for each multiplication and addition"


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))


_ON_THE_PROCESSOR = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""An operator that PyTorch's FLOP counter does not cover."""


def weights(session: Session) -> dict[str, int] | None:
    """`parameters` and `weight_bytes` of the model's networks; None if it has none."""
    held = {id(p): p for module in modules(session.model) for p in module.parameters()}.values()
    if not held:
        return None
    return {"parameters": sum(p.numel() for p in held), "weight_bytes": sum(p.numel() * p.element_size() for p in held)}


def flops(session: Session, scene: Scene) -> dict[str, Any] | None:
    """FLOPs of the first frame with its context, and of a later frame, see `COUNTED`; None if none were counted."""
    first = _counted(lambda: _roll_out(session, scene, 1))
    one_more = _counted(lambda: _roll_out(session, scene, 2))
    frame = {name: count - first.get(name, 0) for name, count in one_more.items() if count > first.get(name, 0)}
    if not one_more:
        return None
    return {"first_frame_flops": sum(first.values()), "frame_flops": sum(frame.values()), "frame_flops_by": frame}


def working_bytes(session: Session, scene: Scene, device: torch.device) -> int:
    """Peak memory of PyTorch's allocator during a rollout, without the weights."""
    return peak_bytes(lambda: _roll_out(session, scene, FRAMES), device)


def resident_bytes(candidate: Candidate, scene: Scene, device: torch.device) -> int:
    """Peak resident memory of a process that only loads the model and rolls it out, including Python and PyTorch."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_of_process, candidate, scene, device, torch.get_num_threads()).result()


def _peak_of_process(candidate: Candidate, scene: Scene, device: torch.device, threads: int) -> int:
    torch.set_num_threads(threads)
    with torch.no_grad():
        _roll_out(Session(candidate.load(device)), scene, FRAMES)
    return peak_rss()


def _counted(run: Callable[[], None]) -> dict[str, int]:
    """FLOPs by operator."""
    with FlopCounterMode(display=False, custom_mapping=_ON_THE_PROCESSOR) as counter:
        run()
    counts = counter.get_flop_counts().get("Global", {})
    return {str(name).removeprefix("aten."): int(count) for name, count in counts.items()}


def _roll_out(session: Session, scene: Scene, steps: int) -> None:
    actions = swaying_actions(steps)
    session.reset(*scene.context(session.model.context_frames))
    for t in range(steps):
        session.step(actions[:, t]).cpu()
