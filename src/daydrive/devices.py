"""Choice of the device, its support for bfloat16, and its memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import psutil
import torch

from daydrive.errors import UserError
from daydrive.processor import bfloat16_feature


def find_device(name: str) -> torch.device:
    """The device with a name such as 'auto', 'cpu', 'cuda' or 'cuda:1'. Raises UserError where it is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: unknown device; use cpu, cuda, cuda:1 or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: unsupported; use cpu, cuda, cuda:1 or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs that PyTorch can use")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device supports bfloat16 natively. oneDNN emulates it on other CPUs and reports it as supported: a
    convolution then takes three times (AVX-512) to eleven times (AVX2) as long as in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported = torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return supported and bfloat16_feature() is not None


def memory_used(device: torch.device) -> tuple[int, int]:
    """Bytes used and total: of the GPU, including other processes; else of this process and of the machine."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    return int(psutil.Process().memory_info().rss), int(psutil.virtual_memory().total)


def release_free_memory() -> None:
    """Return freed memory to the system, which the C library would otherwise keep in growing fragments. Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
