"""A sweep over learning rates: the training's first steps at a rate that grows exponentially (Smith 2017).

Judged by the loss of the same validation clips after every update: the loss of the training's own batches differs so
much from batch to batch that it hides the curve.
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
from daydrive.distributed import DistributedContext, processes_started
from daydrive.errors import UserError, did_you_mean
from daydrive.models.interface import PARTS
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
from daydrive.training.prefetch import DevicePrefetcher
from daydrive.training.setup import TrainOptions, set_up
from daydrive.training.step import clips_per_pass
from daydrive.types import Batch

STEPS_PER_DECADE = 25
LEAST_STEPS = 20
DIVERGED = 2.0
"""Times the lowest smoothed loss."""

WARMUP = 0.1
"""Share of a sweep of one part over which the others come to their own rates."""

Show = Callable[[int, float, float], None]
"""Told after each step: steps done, the rate, the smoothed loss."""


class Range(NamedTuple):
    """Rates from `low` to `high` in `steps` steps."""

    low: float
    high: float
    steps: int


class Sweep(NamedTuple):
    """rates, losses, smoothed: one for each step; losses are of the fixed clips, after the step."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: Suggestion
    stopped_because: str
    seconds: float


def check_range(low: float, high: float, steps: int | None) -> Range:
    """25 steps a decade where `steps` is None. Raises UserError naming the option that is wrong."""
    for option, rate in (("--min-lr", low), ("--max-lr", high)):
        if not 0 < rate < math.inf:
            raise UserError(f"{option} {rate:g}: a learning rate is a number above 0")
    if low >= high:
        raise UserError(f"--min-lr {low:g} has to be below --max-lr {high:g}")
    if steps is not None and steps < LEAST_STEPS:
        raise UserError(f"--steps {steps}: a curve takes {LEAST_STEPS} or more")
    return Range(low, high, steps or max(LEAST_STEPS, round(STEPS_PER_DECADE * math.log10(high / low))))


def check_parts(part: str, per_part: bool) -> list[str]:
    """What is swept, one after the other: 'all' parts together, or parts each on its own."""
    if part not in ("all", *PARTS):
        raise UserError(f"--part {part}: there is no such part{did_you_mean(part, ('all', *PARTS))}")
    if per_part and part != "all":
        raise UserError(f"--per-part sweeps every part on its own; leave out --part {part}, or --per-part")
    return list(PARTS) if per_part else [part]


def sweep(
    config: Config,
    store: Store,
    output: Path,
    part: str,
    over: Range,
    device: torch.device,
    interrupted: Interruption,
    show: Show,
) -> Sweep | None:
    """One sweep on a fresh model, with the batches and the unroll that a training begins with.

    part: 'all', and the rate is `optimizer.lr`, every part keeping its ratio to it; or one part, and the rate is its
    own, while the others train at theirs. Ends early when the loss diverges or a signal comes; None where that was
    before the first step. Writes nothing. output: a folder that must not hold a training.
    UserError for what the user can mend.
    """
    if processes_started() > 1:
        raise UserError("find-lr is one process; start it without torchrun")
    setup = set_up(_as_it_begins(config), store.path, output, DistributedContext.single(device), TrainOptions())
    engine, batches = setup.engine, setup.prefetcher()
    parts = {group["part"] for optimizer in engine.optimizers for group in optimizer.param_groups}
    if part != "all" and part not in parts:
        raise UserError(f"--part {part}: a model of model.type = {config.model.type} has none of that name")
    data = config.data
    clips = fixed_clips(store, "val", setup.length_at(0), config.training.batch_size, data.frame_skip, data.filter)
    fixed = read_clips(store, clips).to(device)
    average = Average(smoothing_span(*over))
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    stopped, began = "all rates were tried", time.monotonic()
    engine.wrapped.train()
    for step, rate in enumerate(exponential_rates(*over)):
        if interrupted.number:
            stopped = f"interrupted before {rate_text(rate)}"
            break
        warmed = min(1.0, (step + 1) / (WARMUP * over.steps))
        set_rates(engine.optimizers, part, rate, config.optimizer.lr, warmed)
        torch.manual_seed(config.training.seed + step)
        loss = fixed_loss(engine, fixed) if _update(engine, batches, setup.augment) else math.nan
        if not math.isfinite(loss):
            stopped = f"diverged, with a loss or a gradient that is not finite at {rate_text(rate)}"
            break
        rates.append(rate)
        losses.append(loss)
        smoothed.append(average.add(loss))
        show(step + 1, rate, smoothed[-1])
        if smoothed[-1] > DIVERGED * min(smoothed):
            stopped = f"diverged, the smoothed loss at {rate_text(rate)} being over {DIVERGED:g} times its lowest"
            break
    if not rates and not interrupted.number:
        raise UserError(f"the loss is not finite after one step at --min-lr {over.low:g}; sweep from a lower rate")
    if not rates:
        return None
    return Sweep(rates, losses, smoothed, suggest(rates, smoothed), stopped, time.monotonic() - began)


def set_rates(
    optimizers: Sequence[torch.optim.Optimizer], part: str, rate: float, common: float, warmed: float
) -> None:
    """common: `optimizer.lr`, which `rate` stands for where all are swept; warmed: share of their own rates that the
    parts not swept have."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if part == "all":
                group["lr"] = group["peak_lr"] * rate / common
            else:
                group["lr"] = rate if group["part"] == part else group["peak_lr"] * warmed


@torch.no_grad()
def fixed_loss(engine: Engine, batch: Batch) -> float:
    """The training's loss, the same dropout each time."""
    torch.manual_seed(engine.config.training.seed)
    clips = len(batch.images)
    return sum(float(engine.evaluate(p).loss) * len(p.images) / clips for p in batch.split(clips_per_pass(batch)))


def _as_it_begins(config: Config) -> Config:
    """The unroll that a training begins with, all the way; no average of the weights, which changes no loss."""
    training = config.training
    unroll = unroll_steps(0, 1, training.unroll, config.data.sequence_length - training.context_frames)
    changes = {"unroll": [UnrollPhase(start=0, steps=unroll)], "ema_decay": None}
    return config.model_copy(update={"training": training.model_copy(update=changes)})


def _update(engine: Engine, batches: DevicePrefetcher, augment: Callable[[Batch], Batch]) -> bool:
    """One optimizer update; whether the gradient was finite, or its loss scale can still be lowered."""
    accumulation = engine.config.training.gradient_accumulation
    for number in range(accumulation):
        for _ in engine.accumulate(augment(next(batches)), last=number == accumulation - 1):
            pass
    if math.isfinite(engine.clip_gradients()):
        engine.update()
    elif engine.precision.may_overflow:
        engine.skip()
    else:
        return False
    return True
