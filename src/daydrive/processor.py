"""The processor: its name, its features, and how many of its cores this process may use."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

import torch

BFLOAT16_FEATURES = ("amx_bf16", "avx512_bf16", "bf16")
"""Names of the processor features that multiply bfloat16, as Linux lists them: of x86, the last one of ARM."""


def processor_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def bfloat16_feature() -> str | None:
    """The feature by which this machine's CPU multiplies bfloat16, None without one."""
    return next((name for name in BFLOAT16_FEATURES if name in processor_features()), None)


@functools.cache
def processor_features() -> frozenset[str]:
    """The CPU's features, named as Linux does. On macOS only `bf16` is queried, on other systems those
    of `BFLOAT16_FEATURES` that PyTorch detects."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    if platform.system() == "Darwin":
        with suppress(OSError, subprocess.SubprocessError):
            command = ["sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
            found = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
            return frozenset({"bf16"} if found == "1" else ())
    tests = {"amx_bf16": torch.cpu._is_amx_tile_supported, "avx512_bf16": torch.cpu._is_avx512_bf16_supported}
    return frozenset(name for name, is_supported in tests.items() if is_supported())


def processors() -> int:
    """Number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
