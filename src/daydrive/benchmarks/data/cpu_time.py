"""CPU time of a data loader: of this process and its workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psutil

TICK = 0.01
"""Resolution of a process's CPU time, seconds."""

WARM_UP = 6
"""Batches; more than a loader has buffers for."""


class Effort(NamedTuple):
    """rounds: repetitions, of which the minimum counts; seconds: minimum CPU time of one round."""

    rounds: int
    seconds: float


THOROUGH = Effort(rounds=5, seconds=2.0)
QUICK = Effort(rounds=1, seconds=0.05)


class Meter:
    """Measures CPU seconds per batch of an endless loader with one worker process."""

    def __init__(self, loader: Any) -> None:
        before = set(psutil.Process().children(recursive=True))
        self._batches: Iterator[Any] = iter(loader)
        for _ in range(WARM_UP):
            next(self._batches)
        new = set(psutil.Process().children(recursive=True)) - before
        self._workers = [child for child in new if not _is_server(child)]
        self._count = 1

    def measure(self, seconds: float) -> float:
        """CPU seconds per batch; waits for prefetching workers to become idle before and after."""
        while True:
            began, here = self._idle(), time.process_time()
            for _ in range(self._count):
                next(self._batches)
            here = time.process_time() - here
            used = self._idle() - began + here
            if used >= seconds:
                return used / self._count
            self._count = max(self._count + 1, int(self._count * min(10.0, 1.2 * seconds / max(used, TICK))))

    def _idle(self) -> float:
        last = self._used()
        while True:
            time.sleep(8 * TICK)
            now = self._used()
            if now - last < TICK / 2 and all(worker.status() != psutil.STATUS_RUNNING for worker in self._workers):
                return now
            last = now

    def _used(self) -> float:
        return sum(sum(worker.cpu_times()[:2]) for worker in self._workers)


def _is_server(process: psutil.Process) -> bool:
    return any("resource_tracker" in word for word in process.cmdline())


def cpu_seconds(run: Callable[[], object], seconds: float) -> float:
    """CPU seconds of one call in this process, averaged over at least `seconds`."""
    run()
    began, count = time.process_time(), 0
    while True:
        run()
        count += 1
        used = time.process_time() - began
        if used >= seconds:
            return used / count
