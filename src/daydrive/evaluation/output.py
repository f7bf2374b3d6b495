"""The working folder of an evaluation, and checks of its output."""

from __future__ import annotations

import math
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from daydrive import workspace
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


def partial(output: Path) -> Path:
    """The working folder of an evaluation."""
    return output.with_name(output.name + ".partial")


def evaluation_workspace(output: Path, plan: dict[str, Any] | None) -> AbstractContextManager[Path]:
    """`<output>.partial`, locked for this process, with the results of an interrupted evaluation of the same plan.

    It is removed at the end and after a UserError. After any other interruption (Ctrl-C, a kill, a full disk, too
    little memory) it remains, and the next evaluation resumes from it. plan: everything that the metrics depend on;
    None if that is unknown, in which case nothing is retained. UserError if another process uses the folder.
    """
    return workspace.workspace(
        partial(output),
        plan,
        results="*.npz",
        busy=lambda holder: f"{holder} is writing to {output}; choose another --output",
        resumable=lambda error: not isinstance(error, UserError),
    )


def finite(value: Any) -> Any:
    """Copies a tree of plain values for strict JSON, replacing numbers that are not finite by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
