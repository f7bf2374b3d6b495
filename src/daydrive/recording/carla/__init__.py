"""Drives in the CARLA simulator, through its client 0.9.13 or later, from a server that runs already."""

from __future__ import annotations

from daydrive.recording.carla.session import CarlaSettings, connected

__all__ = ["CarlaSettings", "connected"]
