"""Signals that end a training in order: the step is finished and saved, and the exit code says which signal it was."""

from __future__ import annotations

import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; the end of a job or of a machine's time; Slurm's warning before that (`--signal=USR1@120`)."""


def exit_code(number: int) -> int:
    """130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1; 0 for none."""
    return 128 + number if number else 0


class Interruption:
    """number: of the signal that came, 0 for none."""

    number: int = 0


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """What came in; the same signal a second time acts at once."""
    came = Interruption()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: types.FrameType | None) -> None:
        came.number = came.number or number
        signal.signal(number, before[signal.Signals(number)])

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])
