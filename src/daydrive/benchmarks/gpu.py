"""What nvidia-smi tells of a GPU while something runs on it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

GPU_LOOK_MILLISECONDS = 200


@contextmanager
def watch_gpu(device: torch.device, quantity: str) -> Iterator[list[float]]:
    """`quantity` (of `nvidia-smi --help-query-gpu`) again and again; filled in at the end, else empty."""
    told: list[float] = []
    if device.type != "cuda" or shutil.which("nvidia-smi") is None:
        yield told
        return
    command = ["nvidia-smi", f"--query-gpu={quantity}", "--format=csv,noheader,nounits"]
    command += [f"--id={device.index or 0}", f"--loop-ms={GPU_LOOK_MILLISECONDS}"]
    watcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield told
    finally:
        watcher.terminate()
        message, _ = watcher.communicate()
        for line in message.splitlines():
            with suppress(ValueError):
                told.append(float(line))
