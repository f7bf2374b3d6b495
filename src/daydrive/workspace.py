"""Folders that one process at a time fills: locked, resumable after an interruption, published atomically."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from daydrive.errors import UserError
from daydrive.files import created_parents, write_json
from daydrive.locations import Location, is_remote

PLAN, LOCK = "plan.json", "lock"


@contextmanager
def exclusive_lock(path: Location, busy: Callable[[str], str]) -> Iterator[None]:
    """Lock `path`, an existing folder or a lock file, until the context or the process ends. Object stores are not
    locked.

    busy: holder, 'process 12 on host' or 'another process' → message of the UserError where the lock is held.
    """
    if is_remote(path):
        yield
        return
    folder = path.is_dir()
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o644)
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
    """`folder`, locked for this process, with the files `results` (a glob) that an earlier process with the same plan
    left.

    It is removed at the end, and after an error unless a later process can resume from its results: after an error
    that is `resumable`, or when the process was killed. plan: everything that the results depend on; None if it is
    unknown; then nothing is retained. busy: see `exclusive_lock`.
    """
    with created_parents(folder):
        folder.mkdir(exist_ok=True)
        with exclusive_lock(folder / LOCK, busy):
            keep = False
            try:
                _prepare(folder, plan, results)
                yield folder
            except BaseException as error:
                keep = plan is not None and resumable(error) and any(folder.glob(results))
                raise
            finally:
                if not keep:
                    shutil.rmtree(folder, ignore_errors=True)


def partial(output: Path) -> Path:
    """The folder in which a command collects its results before it writes `output`."""
    return output.with_name(output.name + ".partial")


def results_workspace(output: Path, plan: dict[str, Any] | None, results: str) -> AbstractContextManager[Path]:
    """`partial(output)` as a `workspace`: removed at the end and after a UserError.

    After any other interruption (Ctrl-C, a kill, a full disk, too little memory) it remains, and the next call resumes
    from it. UserError if another process uses the folder.
    """
    return workspace(
        partial(output),
        plan,
        results=results,
        busy=lambda holder: f"{holder} is writing to {output}; choose another --output",
        resumable=lambda error: not isinstance(error, UserError),
    )


def publish(finished: Path, target: Path, aside: Path) -> None:
    """Rename the folder `finished` to `target`; existing contents are moved to `aside` first."""
    if target.exists() and any(target.iterdir()):
        os.rename(target, aside)
    os.rename(finished, target)


@contextmanager
def staged_folder(output: Path, within: Path | None = None) -> Iterator[Path]:
    """A temporary folder in `within`, on the same file system, by default beside `output`. At the end its files replace
    those in `output`; after an error they are removed."""
    with (
        created_parents(output),
        tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=within or output.absolute().parent) as name,
    ):
        yield Path(name)
        output.mkdir(exist_ok=True)
        for file in sorted(Path(name).iterdir()):
            os.replace(file, output / file.name)


def _prepare(folder: Path, plan: dict[str, Any] | None, results: str) -> None:
    """Remove everything that was not left by the same plan."""
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
