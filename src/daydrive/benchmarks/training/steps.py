"""Time and memory of a training step: against a plain loop, with mixed precision, with gradient checkpointing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from daydrive.benchmarks.findings import Findings
from daydrive.benchmarks.interleaved_timing import least, peak_bytes, time_interleaved
from daydrive.benchmarks.training.workload import Workload
from daydrive.config import Config, OptimizerConfig
from daydrive.models import WorldModel, build_world_model
from daydrive.perceptual import build_perceptual
from daydrive.training.engine import compile_units
from daydrive.training.optim.param_groups import build_optimizers
from daydrive.training.step import Objective, evaluate_batch
from daydrive.types import Batch


class PlainLoop:
    """A plain training loop that starts from the same weights as an `Engine` with the same settings."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self._config = config
        torch.manual_seed(config.training.seed)
        model = build_world_model(config).to(device)
        self.model: WorldModel = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        first = next(module for module in self.model.modules() if isinstance(module, nn.Conv2d))
        first.register_forward_pre_hook(_contiguous)
        self.model.enable_gradient_checkpointing(False)
        self.model.train()
        self._optimizers = plain_optimizers(self.model, config.optimizer)
        distance = build_perceptual(config.loss.perceptual, config.loss.perceptual_weights, device)
        self._objective = Objective(self.model, config.loss, distance)

    def step(self, batches: list[Batch]) -> float:
        """One optimizer update from all batches; returns the mean of their losses."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        total = 0.0
        for batch in batches:
            result = evaluate_batch(self._objective, batch, nullcontext)
            loss = result.loss if batch.weights is not None else result.loss / len(batches)
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(self.model.parameters(), self._config.training.max_grad_norm)
        for optimizer in self._optimizers:
            optimizer.step()
        return total


def _contiguous(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.contiguous() for x in inputs)


def plain_optimizers(model: WorldModel, config: OptimizerConfig) -> list[Optimizer]:
    """The optimizers of training with the same parameter groups, updating tensor by tensor."""
    kinds: dict[type[Optimizer], Callable[..., Optimizer]] = {
        SGD: lambda groups: SGD(groups, lr=config.lr, momentum=config.momentum, foreach=False, fused=False),
        Adam: lambda groups: Adam(groups, lr=config.lr, betas=config.betas, foreach=False, fused=False),
        AdamW: lambda groups: AdamW(groups, lr=config.lr, betas=config.betas, foreach=False, fused=False),
    }
    optimizers = []
    for optimizer in build_optimizers(model, config):
        keys = ("params", "lr", "weight_decay")
        groups = [{key: group[key] for key in keys} for group in optimizer.param_groups]
        optimizers.append(kinds.get(type(optimizer), lambda groups: PlainMuon(groups, config.momentum))(groups))
    return optimizers


class PlainMuon(Optimizer):
    """Muon as published (Jordan et al. 2024): five Newton-Schulz iterations in bfloat16, a matrix at a time."""

    def __init__(self, params: Iterable[dict[str, Any]], momentum: float) -> None:
        super().__init__(params, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"]).reshape(len(p), -1)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                size = group["lr"] * 0.2 * max(update.shape) ** 0.5
                p.add_(newton_schulz(update).view(p.shape).to(p.dtype), alpha=-size)


def newton_schulz(matrix: Tensor) -> Tensor:
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


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


def automatic_precision(workload: Workload) -> Findings:
    """`auto_precision`: on a CPU, a step in the number format that `amp_dtype: auto` does not choose over one in the
    format that it chooses, float32 or bfloat16."""
    chosen = workload.with_settings(use_amp=True, amp_dtype="auto")
    if chosen.precision.dtype is None:
        other = workload.with_settings(use_amp=True, amp_dtype="bfloat16")
    else:
        other = workload.with_settings(use_amp=False)
    batches = workload.batches(workload.lengths[1])
    runs = {name: functools.partial(workload.step, batches, e) for name, e in (("chosen", chosen), ("other", other))}
    seconds = time_interleaved(runs, workload.effort, workload.device)
    best = least(seconds)
    raw = {"config": workload.name, "chosen": chosen.precision.description(), "seconds": seconds}
    return Findings({"auto_precision": best["other"] / best["chosen"]}, {"auto_precision": raw})


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
