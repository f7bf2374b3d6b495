"""Readings of NVIDIA's management library (NVML)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pynvml
import torch

SAMPLE_INTERVAL = 0.2

NVML_ERRORS = (pynvml.NVMLError, RuntimeError)
"""Errors of torch and NVML without a library, a driver, or a reading."""


@contextmanager
def sample_gpu(device: torch.device, read: Callable[[torch.device], float]) -> Iterator[list[float]]:
    """Values of `read`, such as `torch.cuda.utilization`, sampled regularly while this context lasts; empty where
    unavailable."""
    readings: list[float] = []
    if device.type != "cuda":
        yield readings
        return
    stop = threading.Event()

    def sample() -> None:
        while True:
            with suppress(*NVML_ERRORS):
                readings.append(float(read(device)))
            if stop.wait(SAMPLE_INTERVAL):
                return

    sampler_thread = threading.Thread(target=sample, daemon=True)
    sampler_thread.start()
    try:
        yield readings
    finally:
        stop.set()
        sampler_thread.join()


def driver_cuda_version() -> int | None:
    """The newest CUDA version that the driver supports, 12080 for 12.8; None without a driver."""
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
