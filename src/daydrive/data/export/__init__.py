"""Export of stores to other dataset formats."""

from __future__ import annotations

from daydrive.data.export.lerobot import export_lerobot

__all__ = ["export_lerobot"]
