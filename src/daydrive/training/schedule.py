"""Schedules: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from daydrive.config import UnrollPhase


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int, floor: float) -> float:
    """Share of the peak rate at `step` (0-based): linear warmup, then half a cosine down to `floor` at the last step.

    Loshchilov & Hutter 2017.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def unroll_steps(step: int, total_steps: int, phases: Sequence[UnrollPhase], longest: int) -> int:
    """How many frames the dream is unrolled at `step`; `longest` before any phase has begun."""
    begun = [phase for phase in phases if step >= phase.start * total_steps]
    return max(begun, key=lambda phase: phase.start).steps if begun else longest
