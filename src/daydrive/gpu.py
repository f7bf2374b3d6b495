"""What NVIDIA's management library (NVML) tells of a GPU and its driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pynvml
import torch

SECONDS_BETWEEN = 0.2

FAILS = (pynvml.NVMLError, RuntimeError)
"""What torch raises where there is no library, no driver, or a GPU that doesn't tell."""


@contextmanager
def watch_gpu(device: torch.device, read: Callable[[torch.device], float]) -> Iterator[list[float]]:
    """What `read`, such as `torch.cuda.utilization`, tells of a GPU again and again; empty where it tells nothing."""
    readings: list[float] = []
    if device.type != "cuda":
        yield readings
        return
    ended = threading.Event()

    def watch() -> None:
        while True:
            with suppress(*FAILS):
                readings.append(float(read(device)))
            if ended.wait(SECONDS_BETWEEN):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield readings
    finally:
        ended.set()
        watcher.join()


def driver_cuda_version() -> int | None:
    """The newest CUDA version that the driver knows, 12080 for 12.8; None where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return int(pynvml.nvmlSystemGetCudaDriverVersion())
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
