"""Recording from a running CARLA server, with its client 0.9.13 or later."""

from __future__ import annotations

from daydrive.recording.carla.session import CarlaSettings, connected

__all__ = ["CarlaSettings", "connected"]
