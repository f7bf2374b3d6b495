"""Recordings of the CARLA simulator (Dosovitskiy et al. 2017) in common dataset layouts."""

from __future__ import annotations

from daydrive.data.sources.carla.source import CarlaSource

__all__ = ["CarlaSource"]
