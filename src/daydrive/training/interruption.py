"""Signals that end a training cleanly: the step is finished and saved, and the exit code tells which signal it was."""

from __future__ import annotations

import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; the end of a job or of a preemptible machine; Slurm's warning before the time limit (`--signal=USR1@120`)."""


def exit_code(number: int) -> int:
    """130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1; 0 for none."""
    return 128 + number if number else 0


class Interruption:
    """number: the signal received, 0 for none."""

    number: int = 0


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """Record the first signal while the context lasts; the same signal a second time has its usual effect."""
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: types.FrameType | None) -> None:
        interruption.number = interruption.number or number
        signal.signal(number, before[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield interruption
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])
