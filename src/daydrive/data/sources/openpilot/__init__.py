"""Routes of openpilot, recorded by comma's devices: a camera and the log of each segment of a minute."""

from __future__ import annotations

from daydrive.data.sources.openpilot.source import OpenpilotSource

__all__ = ["OpenpilotSource"]
