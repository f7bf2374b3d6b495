"""Where an evaluation works, and what it writes."""

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
    """UserError where `output` can't become or be a folder with room for `size` bytes; leaves no trace."""
    free = shutil.disk_usage(check_folder(output, "output")).free
    if free < size:
        raise UserError(
            f"the output {output} needs {size / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB left; fewer "
            "--predictions or a shorter --horizon take less"
        )


def partial(output: Path) -> Path:
    """Where an evaluation works."""
    return output.with_name(output.name + ".partial")


def evaluation_workspace(output: Path, plan: dict[str, Any] | None) -> AbstractContextManager[Path]:
    """`<output>.partial`, locked for this process, with what an earlier evaluation of the same plan has measured.

    It is removed at the end and after an error of the user's; anything else (Ctrl-C, a kill, a full disk, too little
    memory) leaves it for the next one. plan: what figures depend on; None where that can't be told, and then nothing is
    left. UserError where another process works there.
    """
    return workspace.workspace(
        partial(output),
        plan,
        results="*.npz",
        busy=lambda holder: f"{holder} is filling {output} at this moment; name another --output",
        resumable=lambda error: not isinstance(error, UserError),
    )


def finite(value: Any) -> Any:
    """A tree of plain values for strict JSON: a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
