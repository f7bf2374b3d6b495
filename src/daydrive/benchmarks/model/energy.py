"""Energy per frame, on machines with an energy counter."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from daydrive.gpu import sample_gpu

POWERCAP = Path("/sys/class/powercap")


class Energy(NamedTuple):
    """joules: per run, None with a `reason`. source: the counter, and what it includes."""

    joules: float | None
    source: str = ""
    reason: str = ""


def energy_of(run: Callable[[], object], seconds: float, device: torch.device) -> Energy:
    """Mean energy of the runs that fit into `seconds`, at least one; on a GPU that of the GPU only."""
    return _of_gpu(run, seconds, device) if device.type == "cuda" else _of_processor(run, seconds)


def _of_processor(run: Callable[[], object], seconds: float) -> Energy:
    """RAPL (Running Average Power Limit): a counter in microjoules per CPU package, which includes all processes."""
    packages = sorted(POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"))
    packages = [file for file in packages if file.parent.name.count(":") == 1]
    if not packages:
        return Energy(None, reason=f"the processor has no energy counter in {POWERCAP}")
    try:
        before = [int(file.read_text()) for file in packages]
        runs = _repeat(run, seconds)
        after = [int(file.read_text()) for file in packages]
        wraps = [int((file.parent / "max_energy_range_uj").read_text()) for file in packages]
    except OSError as error:
        return Energy(None, reason=f"the energy counter {error.filename} cannot be read: {error.strerror}")
    used = sum((b - a) % (wrap + 1) for a, b, wrap in zip(before, after, wraps, strict=True))
    return Energy(used / 1e6 / runs, f"RAPL, {len(packages)} packages, all processes included")


def _of_gpu(run: Callable[[], object], seconds: float, device: torch.device) -> Energy:
    began = time.perf_counter()
    with sample_gpu(device, torch.cuda.power_draw) as milliwatts:
        runs = _repeat(run, seconds)
        torch.cuda.synchronize(device)
        took = time.perf_counter() - began
    if not milliwatts:
        return Energy(None, reason="NVML does not report the power of this GPU")
    watts = sum(milliwatts) / len(milliwatts) / 1000
    return Energy(watts * took / runs, "NVML, mean power of the whole GPU")


def _repeat(run: Callable[[], object], seconds: float) -> int:
    began = time.perf_counter()
    runs = 0
    while runs == 0 or time.perf_counter() - began < seconds:
        run()
        runs += 1
    return runs
