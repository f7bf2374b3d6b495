"""Images or a video with any CSV, Parquet or HDF5 table, as described by a mapping file.

`daydrive data import-table` writes the mapping file.
"""

from __future__ import annotations

from daydrive.data.sources.mapped.source import TableSource

__all__ = ["TableSource"]
