"""What a frame costs besides time: arithmetic, weights, memory."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from daydrive.benchmarks.interleaved_timing import peak_bytes
from daydrive.benchmarks.model.candidates import Candidate, modules
from daydrive.benchmarks.model.scene import Scene, swaying
from daydrive.models.rollout import Session

FRAMES = 8
"""of the dream whose memory is measured"""

COUNTED = "convolutions, matrix products and attention; 2 for each multiplication and addition"


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))


_ON_THE_PROCESSOR = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
"""what PyTorch's own counter leaves out"""


def weights(session: Session) -> dict[str, int] | None:
    """`parameters` and their `weight_bytes`, of the networks that the model has; None where it has none."""
    held = {id(p): p for module in modules(session.model) for p in module.parameters()}.values()
    if not held:
        return None
    return {"parameters": sum(p.numel() for p in held), "weight_bytes": sum(p.numel() * p.element_size() for p in held)}


def flops(session: Session, scene: Scene) -> dict[str, Any] | None:
    """Of the first frame with its context and of a frame after that, see `COUNTED`; None where PyTorch saw none."""
    first = _counted(lambda: _dream(session, scene, 1))
    one_more = _counted(lambda: _dream(session, scene, 2))
    frame = {name: count - first.get(name, 0) for name, count in one_more.items() if count > first.get(name, 0)}
    if not one_more:
        return None
    return {"first_frame_flops": sum(first.values()), "frame_flops": sum(frame.values()), "frame_flops_by": frame}


def working_bytes(session: Session, scene: Scene, device: torch.device) -> int:
    """What PyTorch holds at most during a dream, besides the weights."""
    return peak_bytes(lambda: _dream(session, scene, FRAMES), device)


def resident_bytes(candidate: Candidate, scene: Scene, device: torch.device) -> int:
    """The most memory of a process that does nothing but load the model and dream, Python and PyTorch included."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        return alone.submit(_alone, candidate, scene, device, torch.get_num_threads()).result()


def _alone(candidate: Candidate, scene: Scene, device: torch.device, threads: int) -> int:
    torch.set_num_threads(threads)
    with torch.no_grad():
        _dream(Session(candidate.load(device)), scene, FRAMES)
    return _peak_resident()


def _peak_resident() -> int:
    """Linux hands `ru_maxrss` on to a process that a larger one started; its own status is only of itself."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _counted(run: Callable[[], None]) -> dict[str, int]:
    """FLOPs by operator."""
    with FlopCounterMode(display=False, custom_mapping=_ON_THE_PROCESSOR) as counter:
        run()
    counts = counter.get_flop_counts().get("Global", {})
    return {str(name).removeprefix("aten."): int(count) for name, count in counts.items()}


def _dream(session: Session, scene: Scene, steps: int) -> None:
    actions = swaying(steps)
    session.reset(*scene.context(session.model.context_frames))
    for t in range(steps):
        session.step(actions[:, t]).cpu()
