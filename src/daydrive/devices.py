"""Which device computes, and what memory it has."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import psutil
import torch

from daydrive.errors import UserError


def find_device(name: str) -> torch.device:
    """'auto', 'cpu', 'cuda', 'cuda:1', … → a device that is there; raises UserError otherwise."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(
            f"--device {name}: there is no such device; cpu, cuda, cuda:1 and auto are understood"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: cpu, cuda, cuda:1 and auto are understood")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs that PyTorch can use")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether it multiplies bfloat16 itself. A processor with AVX2 and no more only imitates that: a convolution takes
    eleven times as long as in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def memory_used(device: torch.device) -> tuple[int, int]:
    """Bytes used and there: of the GPU, with what others hold of it; else of this process and the machine."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    return int(psutil.Process().memory_info().rss), int(psutil.virtual_memory().total)


def give_memory_back() -> None:
    """What was freed goes back to the system; the C library keeps it otherwise, in more and more pieces. Linux only."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
