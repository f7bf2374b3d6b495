"""What NVML, NVIDIA's management library, tells of a GPU while something runs on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pynvml
import torch

SAMPLE_SECONDS = 0.2


@contextmanager
def sampled(device: torch.device, read: Callable[[Any], float]) -> Iterator[list[float]]:
    """`read` of the GPU's handle every `SAMPLE_SECONDS`; the list stays empty where NVML tells nothing."""
    values: list[float] = []
    handle = _handle(device)
    if handle is None:
        yield values
        return
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            with suppress(pynvml.NVMLError):
                values.append(read(handle))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield values
    finally:
        done.set()
        thread.join()


def watts(handle: Any) -> float:
    """Power that the whole GPU draws."""
    return float(pynvml.nvmlDeviceGetPowerUsage(handle)) / 1000


def utilization(handle: Any) -> float:
    """Share of the last moment in which a kernel ran, [0, 1]."""
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100


def _handle(device: torch.device) -> Any:
    """By its UUID, since NVML counts GPUs otherwise than CUDA does; None where there is no such GPU or no NVML."""
    if device.type != "cuda":
        return None
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    return None
