"""A folder of results that is filled whole: work beside it, which an interruption leaves, then rename file by file."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daydrive.errors import UserError
from daydrive.files import check_folder, parents_made, write_json

PLAN, LOCK, MEASURED = "plan.json", "lock", "measured-*.npz"


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


@contextmanager
def workspace(output: Path, plan: dict[str, Any] | None) -> Iterator[Path]:
    """`<output>.partial`, locked for this process, with what an earlier evaluation of the same plan has measured.

    It is removed at the end and after an error of the user's; anything else (Ctrl-C, a kill, a full disk, too little
    memory) leaves it for the next one. plan: what figures depend on; None where that can't be told, and then nothing is
    left. UserError where another process works there.
    """
    folder = partial(output)
    with parents_made(folder), _locked(folder, output):
        keep = False
        try:
            _begin(folder, plan)
            yield folder
        except UserError:
            raise
        except BaseException:
            keep = plan is not None and any(folder.glob(MEASURED))
            raise
        finally:
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def filling(output: Path, within: Path | None = None) -> Iterator[Path]:
    """A temporary folder `within` another of the same disk, by default beside `output`; its files replace those in
    `output` at the end, and vanish after an error."""
    with (
        parents_made(output),
        tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=within or output.absolute().parent) as name,
    ):
        yield Path(name)
        output.mkdir(exist_ok=True)
        for file in sorted(Path(name).iterdir()):
            os.replace(file, output / file.name)


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is filling {output} at this moment; name another --output") from error
        yield


def _begin(folder: Path, plan: dict[str, Any] | None) -> None:
    """Nothing is there but what the same plan left."""
    file = folder / PLAN
    try:
        same = plan is not None and json.loads(file.read_text(encoding="utf-8")) == json.loads(json.dumps(plan))
    except (OSError, ValueError):
        same = False
    for entry in folder.iterdir():
        if entry.name != LOCK and not (same and entry.suffix in (".json", ".npz")):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_json(file, plan)


def finite(value: Any) -> Any:
    """A tree of plain values for strict JSON: a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
