"""Time and memory of a training step: against a plain loop, with mixed precision, with gradient checkpointing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from daydrive.benchmarks.findings import Findings
from daydrive.benchmarks.interleaved_timing import least, peak_bytes, time_interleaved
from daydrive.benchmarks.training.plain import PlainLoop
from daydrive.benchmarks.training.workload import Workload
from daydrive.training.engine import compile_units


def against_plain(workload: Workload) -> Findings:
    """`step_vs_eager_fp32`: a step without loading at the longest unroll; `raw` also has one at the shortest unroll.

    On a GPU the plain loop uses TF32, and `raw` also has a step with torch.compile.
    """
    device, name = workload.device, workload.name
    plain = PlainLoop(workload.setup.config, device)
    shortest, longest = (workload.batches(frames) for frames in workload.lengths)

    def plain_step() -> None:
        with tf32():
            plain.step(longest)

    runs = {"ours": lambda: workload.step(longest), "plain": plain_step, "shortest": lambda: workload.step(shortest)}
    raw: dict[str, Any] = {}
    if device.type == "cuda":
        engine = workload.with_settings()
        compiled = functools.partial(workload.step, longest, engine)
        raw["compile"] = compile_units(engine.model, compiled)
        runs["compiled"] = compiled
    seconds = time_interleaved(runs, workload.effort, device)
    best = least(seconds)
    clips = workload.setup.resume_state.clips_per_step
    raw |= {
        "seconds": seconds,
        "clips_a_second": {kind: clips / best[kind] for kind in best if kind != "shortest"},
        "workload": workload.describe(),
    }
    return Findings({f"step_vs_eager_fp32_{name}": best["plain"] / best["ours"]}, {f"step_{name}": raw})


def mixed_precision(workload: Workload) -> Findings:
    """`amp_speed`, `amp_memory`: a step with `use_amp` and without."""
    device = workload.device
    batches = workload.batches(workload.lengths[1])
    with tf32():
        runs = {
            f"use_amp={on}": functools.partial(workload.step, batches, workload.with_settings(use_amp=on))
            for on in (True, False)
        }
        seconds = time_interleaved(runs, workload.effort, device)
        memory = {name: peak_bytes(run, device) for name, run in runs.items()}
    best = least(seconds)
    ratios = {
        "amp_speed": best["use_amp=False"] / best["use_amp=True"],
        "amp_memory": memory["use_amp=True"] / memory["use_amp=False"],
    }
    return Findings(ratios, {"mixed_precision": {"config": workload.name, "seconds": seconds, "bytes": memory}})


def gradient_checkpointing(workload: Workload) -> Findings:
    """`checkpointing_memory`, `checkpointing_time`: a step with gradient checkpointing over one without.

    Gradients of an earlier batch are in place; memory is beyond that of weights, moments and those gradients.
    """
    device, model = workload.device, workload.engine.model
    batches = workload.batches(workload.lengths[1])

    def run(on: bool, whole_step: bool) -> None:
        model.enable_gradient_checkpointing(on)
        (workload.step if whole_step else workload.gradients)(batches)

    runs = {f"checkpointing={on}": functools.partial(run, on) for on in (False, True)}
    seconds = time_interleaved(
        {n: functools.partial(r, whole_step=True) for n, r in runs.items()}, workload.effort, device
    )
    workload.gradients(batches)
    memory = {name: peak_bytes(functools.partial(r, whole_step=False), device) for name, r in runs.items()}
    model.enable_gradient_checkpointing(workload.config.training.use_gradient_checkpointing)
    workload.engine.zero_grad()
    best = least(seconds)
    ratios = {
        "checkpointing_memory": memory["checkpointing=True"] / memory["checkpointing=False"],
        "checkpointing_time": best["checkpointing=True"] / best["checkpointing=False"],
    }
    return Findings(ratios, {"checkpointing": {"config": workload.name, "seconds": seconds, "bytes": memory}})


@contextmanager
def tf32() -> Iterator[None]:
    """Allow TF32 for float32 matrix products and convolutions on a GPU; no effect on a CPU."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before
