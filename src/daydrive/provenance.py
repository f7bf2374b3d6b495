"""Provenance: code, versions and machine of a run, and its inputs."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import yaml

from daydrive.config import Config, as_tree
from daydrive.files import write_json, write_text
from daydrive.version import __version__


def git(*arguments: str) -> str | None:
    """Output of git for the repository of this code; None where there is none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def code_state() -> dict[str, str | None]:
    """The commit, and a hash of the uncommitted changes."""
    diff = git("diff", "HEAD")
    return {
        "git_commit": (git("rev-parse", "HEAD") or "").strip() or None,
        "git_diff": hashlib.sha256(diff.encode()).hexdigest()[:32] if diff else None,
    }


def versions() -> dict[str, str]:
    return {
        "daydrive": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def device_name(device: torch.device) -> str:
    """The device as text."""
    if device.type == "cuda":
        return f"{device}: {torch.cuda.get_device_name(device)}"
    return f"{device}: {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def record(run: Path, config: Config, store_path: Path, fingerprint: str, device: torch.device) -> None:
    """Write `config.yaml`, `provenance.json` and, with uncommitted changes, `code.diff`."""
    write_text(run / "config.yaml", yaml.safe_dump(as_tree(config), sort_keys=False))
    diff = git("diff", "HEAD")
    if diff:
        write_text(run / "code.diff", diff)
    write_json(
        run / "provenance.json",
        {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "git_commit": (git("rev-parse", "HEAD") or "").strip() or None,
            "git_diff": "code.diff" if diff else None,
            "versions": versions(),
            "seed": config.training.seed,
            "store": {"path": str(store_path), "fingerprint": fingerprint},
            "device": device_name(device),
            "threads": torch.get_num_threads(),
        },
    )
