"""Schedules of learning rate and unroll length, as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from daydrive.config import SchedulerConfig, UnrollPhase


def learning_rate_factor(step: int, total_steps: int, scheduler: SchedulerConfig, minimum: float) -> float:
    """The learning rate at `step` (0-based) as a fraction of the peak: linear warmup, then decay to `minimum` at the
    last step.

    'cosine': half a cosine (Loshchilov & Hutter 2017); 'linear': a line; 'constant': no decay.

    >>> linear = SchedulerConfig(type="linear", warmup_steps=2)
    >>> [learning_rate_factor(step, 7, linear, minimum=0.0) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < scheduler.warmup_steps:
        return (step + 1) / scheduler.warmup_steps
    progress = min(1.0, (step - scheduler.warmup_steps) / max(1, total_steps - 1 - scheduler.warmup_steps))
    match scheduler.type:
        case "cosine":
            remaining = 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            remaining = 1 - progress
        case "constant":
            remaining = 1.0
    return minimum + (1 - minimum) * remaining


def unroll_steps(step: int, total_steps: int, phases: Sequence[UnrollPhase], longest: int) -> int:
    """Number of frames predicted at `step` by the rollout in the loss; `longest` before the first phase.

    >>> phases = [UnrollPhase(start=0.0, steps=2), UnrollPhase(start=0.5, steps=6)]
    >>> [unroll_steps(step, 4, phases, longest=12) for step in range(4)]
    [2, 2, 6, 6]
    """
    started = [phase for phase in phases if step >= phase.start * total_steps]
    return max(started, key=lambda phase: phase.start).steps if started else longest
