"""A folder of results that is filled whole: work beside it, then rename file by file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daydrive.errors import UserError
from daydrive.files import check_folder, parents_made


def check_writable(output: Path, size: int = 0) -> None:
    """UserError where `output` can't become or be a folder with room for `size` bytes; leaves no trace."""
    free = shutil.disk_usage(check_folder(output, "output")).free
    if free < size:
        raise UserError(
            f"the output {output} needs {size / 1e9:.1f} GB and its disk has {free / 1e9:.1f} GB left; fewer --clips "
            "or a shorter --horizon take less"
        )


@contextmanager
def filling(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output`; its files replace those in `output` at the end, and vanish after an error."""
    with (
        parents_made(output),
        tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.absolute().parent) as name,
    ):
        yield Path(name)
        output.mkdir(exist_ok=True)
        for file in sorted(Path(name).iterdir()):
            os.replace(file, output / file.name)


def finite(value: Any) -> Any:
    """A tree of plain values for strict JSON: a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
