"""Folders that one process at a time fills: locked, taken up again after an interruption, published whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daydrive.errors import UserError
from daydrive.files import parents_made, write_json
from daydrive.locations import Location, is_remote

PLAN, LOCK = "plan.json", "lock"


@contextmanager
def exclusive_lock(place: Location, busy: Callable[[str], str]) -> Iterator[None]:
    """Hold `place`, a folder or a file that is there for that; the system lets go when the process ends, however it
    ends. Object stores have no such lock.

    busy: who holds it, 'process 12 on host' or 'another process' → the sentence of the UserError where one does.
    """
    if is_remote(place):
        yield
        return
    folder = place.is_dir()
    handle = os.open(place, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy("another process" if folder else _holder(handle))) from None
        if not folder:
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        os.close(handle)


@contextmanager
def workspace(
    folder: Path,
    plan: dict[str, Any] | None,
    results: str,
    busy: Callable[[str], str],
    resumable: Callable[[BaseException], bool],
) -> Iterator[Path]:
    """`folder`, locked for this process, with the files `results` (a glob) that an earlier one of the same plan left.

    It is removed at the end, and after an error unless there are results that a later run can take up: those of an
    error that is `resumable`, or of a process that was killed. plan: all that the results depend on; None where that
    can't be told, and then nothing is left. busy: see `exclusive_lock`.
    """
    with parents_made(folder):
        folder.mkdir(exist_ok=True)
        with exclusive_lock(folder / LOCK, busy):
            kept = False
            try:
                _begin(folder, plan, results)
                yield folder
            except BaseException as error:
                kept = plan is not None and resumable(error) and any(folder.glob(results))
                raise
            finally:
                if not kept:
                    shutil.rmtree(folder, ignore_errors=True)


def publish(finished: Path, target: Path, aside: Path) -> None:
    """Rename the folder `finished` to `target`; what is there makes way to `aside` first."""
    if target.exists() and any(target.iterdir()):
        os.rename(target, aside)
    os.rename(finished, target)


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


def _begin(folder: Path, plan: dict[str, Any] | None, results: str) -> None:
    """Nothing is there but what the same plan left."""
    file = folder / PLAN
    try:
        same = plan is not None and json.loads(file.read_text(encoding="utf-8")) == json.loads(json.dumps(plan))
    except (OSError, ValueError):
        same = False
    for entry in folder.iterdir():
        if entry.name != LOCK and not (same and entry.match(results)):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_json(file, plan)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 1000, 0))
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
