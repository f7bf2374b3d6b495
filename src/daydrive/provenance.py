"""Which code, versions and machine made something."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

import daydrive


def git(*arguments: str) -> str | None:
    """What git says about the folder of this code; None where it is in no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(daydrive.__file__).parent), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def code_state() -> dict[str, str | None]:
    """The commit, and a hash of what differs from it."""
    diff = git("diff", "HEAD")
    return {
        "git_commit": (git("rev-parse", "HEAD") or "").strip() or None,
        "git_diff": hashlib.sha256(diff.encode()).hexdigest()[:32] if diff else None,
    }


def versions() -> dict[str, str]:
    return {
        "daydrive": daydrive.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
