"""LeRobot datasets (Cadene et al. 2024, github.com/huggingface/lerobot), format versions 2 and 3."""

from __future__ import annotations

import os
from pathlib import Path

from daydrive.data.sources.lerobot.source import LeRobotSource

__all__ = ["LeRobotSource", "local_copy"]


def local_copy(name: str) -> Path | None:
    """The folder of a downloaded dataset `OWNER/NAME` in HF_LEROBOT_HOME, by default `lerobot` in HF_HOME; or None."""
    hub = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    folder = Path(os.environ.get("HF_LEROBOT_HOME") or Path(hub) / "lerobot") / name
    return folder if (folder / "meta" / "info.json").is_file() else None
