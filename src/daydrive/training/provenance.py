"""What a run was made from: code, versions, settings, data, machine."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import torch
import yaml

from daydrive.config import Config, as_tree
from daydrive.files import write_json, write_text
from daydrive.provenance import device_name, git, versions


def record(run: Path, config: Config, store_path: Path, fingerprint: str, device: torch.device) -> None:
    """Write `config.yaml`, `provenance.json` and, where the code differs from its commit, `code.diff`."""
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
