"""A sweep over learning rates: the first steps of a training, with an exponentially growing rate (Smith 2017).

Each step is judged by the loss of the same validation clips, because the loss of the training batches varies so much
between batches that it hides the curve.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from daydrive.config import Config, UnrollPhase
from daydrive.data.sampling.clips import fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext, launched_processes
from daydrive.errors import UserError, did_you_mean
from daydrive.models.interface import PARTS
from daydrive.training.context import DevicePrefetcher, TrainOptions, build_context
from daydrive.training.engine import Engine
from daydrive.training.interruption import Interruption
from daydrive.training.lr_finder.suggestion import (
    Average,
    Suggestion,
    exponential_rates,
    rate_text,
    smoothing_span,
    suggest,
)
from daydrive.training.optim.schedule import unroll_steps
from daydrive.training.step import clips_per_pass
from daydrive.types import Batch

STEPS_PER_DECADE = 25
MIN_STEPS = 20
DIVERGED = 2.0
"""A sweep has diverged at this multiple of its lowest smoothed loss."""

WARMUP = 0.1
"""In a sweep of one part, the fraction of the sweep over which the other parts warm up to their own rates."""

OnStep = Callable[[int, float, float], None]
"""Called after each step with the number of steps done, the rate and the smoothed loss."""


class Range(NamedTuple):
    """`steps` learning rates from `low` to `high`."""

    low: float
    high: float
    steps: int


class Sweep(NamedTuple):
    """rates, losses, smoothed: one value per step; losses are of the fixed clips, after the step."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: Suggestion
    stopped_because: str
    seconds: float


def check_range(low: float, high: float, steps: int | None) -> Range:
    """Validate the range; 25 steps per decade where `steps` is None. Raises UserError naming the invalid option."""
    for option, rate in (("--min-lr", low), ("--max-lr", high)):
        if not 0 < rate < math.inf:
            raise UserError(f"{option} {rate:g}: a learning rate has to be above 0")
    if low >= high:
        raise UserError(f"--min-lr {low:g} has to be below --max-lr {high:g}")
    if steps is not None and steps < MIN_STEPS:
        raise UserError(f"--steps {steps}: at least {MIN_STEPS} are needed")
    return Range(low, high, steps or max(MIN_STEPS, round(STEPS_PER_DECADE * math.log10(high / low))))


def check_parts(part: str, per_part: bool) -> list[str]:
    """The sweeps to run: 'all' parts together, or each part separately."""
    if part not in ("all", *PARTS):
        raise UserError(f"--part {part}: unknown part{did_you_mean(part, ('all', *PARTS))}")
    if per_part and part != "all":
        raise UserError(f"--per-part sweeps each part separately; omit --part {part} or --per-part")
    return list(PARTS) if per_part else [part]


def sweep(
    config: Config,
    store: Store,
    output: Path,
    part: str,
    lr_range: Range,
    device: torch.device,
    interrupted: Interruption,
    on_step: OnStep,
) -> Sweep | None:
    """Run a sweep on a new model, with the batches and the unroll that a training starts with.

    part: 'all' sweeps `optimizer.lr`, with every part at its ratio to it; another part sweeps its own rate while the
    other parts train at theirs. Stops early when the loss diverges or a signal arrives; returns None where that was
    before the first step. output: a folder that must not hold a training; nothing is written to it. Raises UserError
    for invalid input.
    """
    if launched_processes() > 1:
        raise UserError("find-lr runs in one process; start it without torchrun")
    context = build_context(
        _initial_settings(config), store.path, output, DistributedContext.single(device), TrainOptions()
    )
    engine, batches = context.engine, context.prefetcher()
    parts = {group["part"] for optimizer in engine.optimizers for group in optimizer.param_groups}
    if part != "all" and part not in parts:
        raise UserError(f"--part {part}: models of model.type = {config.model.type} have no such part")
    data = config.data
    clips = fixed_clips(store, "val", context.length_at(0), config.training.batch_size, data.frame_skip, data.filter)
    fixed = read_clips(store, clips).to(device)
    average = Average(smoothing_span(*lr_range))
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    stopped, started = "all rates were tried", time.monotonic()
    engine.wrapped.train()
    for step, rate in enumerate(exponential_rates(*lr_range)):
        if interrupted.number:
            stopped = f"interrupted before {rate_text(rate)}"
            break
        warmup = min(1.0, (step + 1) / (WARMUP * lr_range.steps))
        set_rates(engine.optimizers, part, rate, config.optimizer.lr, warmup)
        torch.manual_seed(config.training.seed + step)
        loss = fixed_loss(engine, fixed) if _update(engine, batches, context.augment) else math.nan
        if not math.isfinite(loss):
            stopped = f"diverged, with a loss or a gradient that is not finite at {rate_text(rate)}"
            break
        rates.append(rate)
        losses.append(loss)
        smoothed.append(average.add(loss))
        on_step(step + 1, rate, smoothed[-1])
        if smoothed[-1] > DIVERGED * min(smoothed):
            stopped = f"diverged, the smoothed loss at {rate_text(rate)} being over {DIVERGED:g} times its lowest"
            break
    if not rates and not interrupted.number:
        raise UserError(f"the loss is not finite after one step at --min-lr {lr_range.low:g}; sweep from a lower rate")
    if not rates:
        return None
    return Sweep(rates, losses, smoothed, suggest(rates, smoothed), stopped, time.monotonic() - started)


def set_rates(
    optimizers: Sequence[torch.optim.Optimizer], part: str, rate: float, base_lr: float, warmup: float
) -> None:
    """base_lr: `optimizer.lr`, which `rate` replaces where all parts are swept. warmup: fraction of their own rates
    that the other parts have."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if part == "all":
                group["lr"] = group["peak_lr"] * rate / base_lr
            else:
                group["lr"] = rate if group["part"] == part else group["peak_lr"] * warmup


@torch.no_grad()
def fixed_loss(engine: Engine, batch: Batch) -> float:
    """The training loss, with the same dropout each time."""
    torch.manual_seed(engine.config.training.seed)
    clips = len(batch.images)
    return sum(float(engine.evaluate(p).loss) * len(p.images) / clips for p in batch.split(clips_per_pass(batch)))


def _initial_settings(config: Config) -> Config:
    """The settings with the first unroll length for all steps and without EMA, which does not affect the loss."""
    training = config.training
    unroll = unroll_steps(0, 1, training.unroll, config.data.sequence_length - training.context_frames)
    changes = {"unroll": [UnrollPhase(start=0, steps=unroll)], "ema_decay": None}
    return config.model_copy(update={"training": training.model_copy(update=changes)})


def _update(engine: Engine, batches: DevicePrefetcher, augment: Callable[[Batch], Batch]) -> bool:
    """Make an optimizer update; returns whether the gradient was finite, or the loss scale can still be lowered."""
    accumulation = engine.config.training.gradient_accumulation
    for number in range(accumulation):
        engine.backward(augment(next(batches)), last=number == accumulation - 1)
    if math.isfinite(engine.clip_gradients()):
        engine.update()
    elif engine.precision.may_overflow:
        engine.skip()
    else:
        return False
    return True
