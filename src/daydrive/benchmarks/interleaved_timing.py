"""Seconds and bytes, on a machine that others may use at the same time."""

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
    """rounds, seconds: how often what is compared is repeated, and for how long, at least. steps: of a training with
    its loader. drives, frames: drawn."""

    rounds: int
    seconds: float
    steps: int
    drives: int
    frames: int


THOROUGH = Effort(rounds=5, seconds=20, steps=24, drives=12, frames=60)
QUICK = Effort(rounds=2, seconds=0, steps=3, drives=8, frames=24)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Until the device is done."""
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def time_interleaved(runs: Mapping[str, Callable[[], object]], effort: Effort, device: torch.device) -> Seconds:
    """Each once to warm up, then all in turn, again and again: what disturbs the machine for a while hits all of them.

    The least seconds of each are those to compare.
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
    return {name: min(each) for name, each in seconds.items()}


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """What PyTorch's allocator holds at most while `run` runs, beyond what it held before.

    On a processor every allocation is counted: unlike the resident set that does not depend on what the C library
    keeps for later, and it means the same as on a GPU.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return int(torch.cuda.max_memory_allocated(device) - before)
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it tells of every beginning and end otherwise
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(count for _, count in changes), default=0)
