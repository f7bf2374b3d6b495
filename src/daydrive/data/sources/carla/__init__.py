"""Recordings of the CARLA simulator (Dosovitskiy et al. 2017), in the layouts that people have."""

from __future__ import annotations

from daydrive.data.sources.carla.source import CarlaSource

__all__ = ["CarlaSource"]
