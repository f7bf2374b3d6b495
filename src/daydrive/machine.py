"""Description of the machine that measurements are made on, and the memory of this process."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from daydrive.processor import bfloat16_feature, processor_name, processors


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions; `load_average`: of the last minute before the measurement; `bfloat16`: the CPU's
    feature for it."""
    gpu = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        gpu = {"name": properties.name, "bytes": properties.total_memory, "count": torch.cuda.device_count()}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(device),
        "processor": processor_name(),
        "processors": processors(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": gpu,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "bfloat16": bfloat16_feature(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }


def peak_rss() -> int:
    """Bytes of this process's largest resident set. On Linux `ru_maxrss` is inherited from a larger parent, VmHWM is
    not."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
