"""Interleaved timing and peak memory, robust to other load on the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

Seconds = dict[str, list[float]]


class Effort(NamedTuple):
    """Amount of measurement. rounds, seconds: minimum number of repetitions and minimum duration. steps: training steps
    with the loader. drives, frames: size of the generated dataset."""

    rounds: int
    seconds: float
    steps: int
    drives: int
    frames: int


THOROUGH = Effort(rounds=5, seconds=20, steps=24, drives=12, frames=60)
QUICK = Effort(rounds=2, seconds=0, steps=3, drives=8, frames=24)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Duration of `run()`, including pending work of the device."""
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def time_interleaved(runs: Mapping[str, Callable[[], object]], effort: Effort, device: torch.device) -> Seconds:
    """Time callables in turn after one warm-up call each, so that temporary load on the machine affects all of them.

    Compare the minimum of each (`least`).
    """
    for run in runs.values():
        seconds_of(run, device)
    seconds: Seconds = {name: [] for name in runs}
    began = time.perf_counter()
    rounds = 0
    while rounds < effort.rounds or time.perf_counter() - began < effort.seconds:
        for name, run in runs.items():
            seconds[name].append(seconds_of(run, device))
        rounds += 1
    return seconds


def least(seconds: Seconds) -> dict[str, float]:
    """The shortest time of each."""
    return {name: min(each) for name, each in seconds.items()}


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Peak memory of PyTorch's allocator during `run`, beyond the memory allocated before.

    On the CPU every allocation is counted by the profiler. Unlike the resident set size this is independent of memory
    that the C library retains, and comparable with a GPU.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return int(torch.cuda.max_memory_allocated(device) - before)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # otherwise it logs every start and stop
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(count for _, count in changes), default=0)
