"""Stores written in the formats of others."""

from __future__ import annotations

from daydrive.data.export.lerobot import export_lerobot

__all__ = ["export_lerobot"]
