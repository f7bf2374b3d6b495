"""Description of the machine that measurements are made on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
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
