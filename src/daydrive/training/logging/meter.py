"""Running means of the losses, and throughput."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from daydrive.devices import memory_used
from daydrive.distributed import DistributedContext

PEAK_FLOPS = {
    "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12, "3090": 71e12,
}  # fmt: skip
"""Dense bfloat16 operations per second with float32 accumulation, as stated by the manufacturer, by part of the GPU's
name."""


COUNT = "/count"
"""Ends the names of the numbers of clips; not every step has every loss."""


class Meter:
    """Means over clips since the last log line. Sums stay on the device until they are read, and are part of a
    checkpoint, so that a resumed run logs the same values."""

    def __init__(self, state: dict[str, float] | None = None) -> None:
        state = dict(state or {})
        if "count" in state:  # of checkpoints in which all losses had one count
            count = state.pop("count")
            state |= {name + COUNT: count for name in state}
        self._sums: dict[str, Tensor | float] = dict(state)

    def add(self, values: dict[str, Tensor]) -> None:
        """values: (B,) each, of the same clips."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double().sum()
            self._sums[name + COUNT] = self._sums.get(name + COUNT, 0.0) + float(len(value))

    def take(self, dist: DistributedContext) -> dict[str, float]:
        """Return the means over the clips of all processes, and reset."""
        sums = self.state(dist)
        self._sums = {}
        return {name: total / sums[name + COUNT] for name, total in sums.items() if not name.endswith(COUNT)}

    def state(self, dist: DistributedContext) -> dict[str, float]:
        """The sums over all processes."""
        return dist.sum({name: float(total) for name, total in self._sums.items()})


class ThroughputMeter:
    """Throughput of the steps since the last log line, without the time of logging, validation and saving."""

    def __init__(self, dist: DistributedContext, clips_per_step: int) -> None:
        self._dist, self._clips_per_step = dist, clips_per_step
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        self._flops: float | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Measures everything that belongs to a step."""
        started = time.perf_counter()
        if self._flops is None and peak_flops(self._dist.device) is not None:
            with FlopCounterMode(display=False) as counter:
                yield
            self._flops = float(counter.get_total_flops())
        else:
            yield
        self._seconds += time.perf_counter() - started
        self._steps += 1

    def take(self, waited: float) -> dict[str, float]:
        """Return the metrics by name (`speed/…`) and reset. waited: seconds spent waiting for data since the training
        started."""
        waiting, self._waited = waited - self._waited, waited
        steps, seconds = max(1, self._steps), max(1e-9, self._seconds)
        self._steps, self._seconds = 0, 0.0
        metrics = {
            "speed/step_seconds": seconds / steps,
            "speed/samples_per_second": self._clips_per_step * steps / seconds,
            "speed/data_wait": min(1.0, waiting / seconds),
            "speed/device_use": max(0.0, 1 - waiting / seconds),
            "speed/memory_gb": memory_used(self._dist.device)[0] / 2**30,
        }
        peak = peak_flops(self._dist.device)
        if self._flops is not None and peak is not None:
            metrics["speed/mfu"] = self._flops * steps / seconds / peak
        return self._dist.mean(metrics)


def peak_flops(device: torch.device) -> float | None:
    """Peak operations per second of a device; None where unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for key, flops in PEAK_FLOPS.items() if key in name), None)
