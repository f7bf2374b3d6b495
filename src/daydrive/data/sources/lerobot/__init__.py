"""LeRobot datasets (Cadene et al. 2024, github.com/huggingface/lerobot), format versions 2 and 3."""

from __future__ import annotations

from daydrive.data.sources.lerobot.source import LeRobotSource

__all__ = ["LeRobotSource"]
