"""Guesses which columns of a table are time, steering, throttle, brake, gear and speed, and checks them by images."""

from __future__ import annotations

from daydrive.data.table_import.importing import Imported, import_table

__all__ = ["Imported", "import_table"]
