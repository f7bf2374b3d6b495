"""Recordings of ROS 1 (.bag) and ROS 2 (folders with metadata.yaml, and single .mcap and .db3 files)."""

from __future__ import annotations

from daydrive.data.sources.rosbag.source import RosbagSource

__all__ = ["RosbagSource"]
