"""nuScenes (Caesar et al. 2020, arXiv:1903.11027) with its CAN bus expansion."""

from __future__ import annotations

from daydrive.data.sources.nuscenes.source import NuScenesSource

__all__ = ["NuScenesSource"]
