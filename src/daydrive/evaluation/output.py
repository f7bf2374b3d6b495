"""Checks of the output of an evaluation."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from daydrive.errors import UserError
from daydrive.files import check_folder

MEASURED = "measured-*.npz"


def check_writable(output: Path, size: int = 0) -> None:
    """Raises UserError if `output` cannot be a folder with `size` bytes of free disk space; creates nothing."""
    free = shutil.disk_usage(check_folder(output, "output")).free
    if free < size:
        raise UserError(
            f"the output {output} needs {size / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB left; fewer "
            "--predictions or a shorter --horizon take less"
        )


def finite(value: Any) -> Any:
    """Copies a tree of plain values for strict JSON, replacing numbers that are not finite by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
