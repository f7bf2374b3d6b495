"""Training with the data loader: waiting time, clips per second and GPU utilization."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from daydrive.benchmarks.findings import Findings
from daydrive.benchmarks.interleaved_timing import seconds_of
from daydrive.benchmarks.training.workload import Workload
from daydrive.data.sampling.clips import read_clips
from daydrive.gpu import sample_gpu
from daydrive.training.logging.meter import ThroughputMeter


def with_loader(workload: Workload) -> Findings:
    """`loader_wait`: fraction of the step time spent waiting for the loader, with the config's number of workers.

    Uses the first steps of training, which have the shortest unroll and so the highest demand for clips. If a step uses
    fewer clips than in the config (see `Workload.share`), reading and computing shrink by the same factor. There are
    more steps than prefetched batches, so that prefetching before the first step does not bias the result.
    """
    setup, name, steps = workload.setup, workload.name, workload.effort.steps
    prefetcher = setup.prefetcher()
    speed = ThroughputMeter(setup.dist, setup.resume_state.clips_per_step)

    def step() -> None:
        with speed.step():
            batches = [setup.augment(next(prefetcher)) for _ in range(setup.config.training.gradient_accumulation)]
            workload.step(batches)

    first = next(prefetcher)
    read = seconds_of(lambda: read_clips(setup.store, first.clips), torch.device("cpu"))
    step()
    speed.take(prefetcher.waited)
    if workload.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(workload.device)
    with gpu_use(workload.device) as used:
        for _ in range(steps):
            step()
        if workload.device.type == "cuda":
            torch.cuda.synchronize(workload.device)
    metrics = speed.take(prefetcher.waited)
    raw: dict[str, Any] = {
        **metrics,
        "steps": steps,
        "frames": first.images.shape[1],
        "workers": setup.config.data.num_workers,
        "seconds_to_read_a_batch_in_one_process": read,
        "gpu_use": sum(used) / len(used) if used else None,
        "workload": workload.describe(),
    }
    if workload.device.type == "cuda":
        raw["gpu_peak_bytes"] = torch.cuda.max_memory_allocated(workload.device)
    return Findings({f"loader_wait_{name}": metrics["speed/data_wait"]}, {f"loading_{name}": raw})


@contextmanager
def gpu_use(device: torch.device) -> Iterator[list[float]]:
    """Samples of the GPU utilization in [0, 1] by NVML; the list is filled at exit and empty without NVML."""
    with sample_gpu(device, torch.cuda.utilization) as percent:
        used: list[float] = []
        yield used
    used += [value / 100 for value in percent]
