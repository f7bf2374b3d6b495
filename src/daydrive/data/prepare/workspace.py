"""The folder beside the target where a preparation works, and the last step that makes it a store."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from daydrive.data.prepare.shards import UnfinishedError
from daydrive.data.sources.base import flag
from daydrive.data.store.store import METADATA_FILE, read_metadata
from daydrive.errors import UserError
from daydrive.files import parents_made, write_json
from daydrive.locations import Location, UnreachableError, exists, is_remote

PLAN = "plan.json"
FINISHED = "store"


def is_prepared(target: Location, request: dict[str, Any], overwrite: bool) -> bool:
    """Whether the store that `request` describes is at `target` already; with `overwrite` it never counts.

    UserError where something else is there and may not be replaced.
    """
    if not holds_store(target) or overwrite:
        return False
    there, wanted = _flat({"fit": "stretch", **read_metadata(target).get("request", {})}), _flat(request)
    said = [
        f"its {key} is {_short(there.get(key))}, not {_short(wanted[key])}"
        for key in wanted
        if there.get(key) != wanted[key]
    ]
    if said:
        raise UserError(f"there is another store at {target}: {'; '.join(said)}; give another --output or --overwrite")
    return True


def holds_store(target: Location) -> bool:
    """Whether a store is at `target`; UserError where something else is."""
    if is_remote(target):
        return exists(target) and exists(target / METADATA_FILE)
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_dir():
        raise UserError(f"the output {target} is a file; give a folder")
    if not any(target.iterdir()):
        return False
    if not (target / METADATA_FILE).is_file():
        raise UserError(f"the output {target} is a folder of something else; give one that is empty or not there yet")
    return True


@contextmanager
def workspace(target: Location, plan: dict[str, Any]) -> Iterator[Path]:
    """`<target>.partial`, locked for this process, with what an earlier run of the same plan has finished.

    It is removed at the end and after an error; an interruption (Ctrl-C, a kill, a full disk, an object store that does
    not answer) leaves it for the next run.
    """
    folder = partial(target)
    with parents_made(folder), _locked(folder, target):
        try:
            _begin(folder, plan)
            yield folder
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if not (_may_work_later(error) and any(folder.glob("*.arrow"))):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(place: Location, doing: str) -> Iterator[None]:
    """A store's folder held by one process that writes to it, released by the system when that ends in whatever way.

    Object stores have no such lock.
    """
    if is_remote(place):
        yield
        return
    folder = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is {doing} {place} at this moment") from error
        yield
    finally:
        os.close(folder)


def partial(target: Location) -> Path:
    """Beside a folder; for an object store below `data/processed`, named after it."""
    if is_remote(target):
        told = hashlib.sha256(str(target).encode()).hexdigest()[:8]
        return Path("data") / "processed" / f"{target.name}-{told}.partial"
    return target.with_name(target.name + ".partial")


def publish(folder: Path, target: Path) -> None:
    """Renames the finished store in the workspace to its place; what is at `target` makes way first."""
    if target.exists() and any(target.iterdir()):
        os.rename(target, folder / "replaced")
    os.rename(folder / FINISHED, target)


@contextmanager
def _locked(folder: Path, target: Location) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is preparing {target} at this moment") from error
        yield


def _may_work_later(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(error, (UnfinishedError, UnreachableError))


def _begin(folder: Path, plan: dict[str, Any]) -> None:
    file = folder / PLAN
    plan = json.loads(json.dumps(plan))
    try:
        same = json.loads(file.read_text(encoding="utf-8")) == plan
    except (OSError, ValueError):
        same = False
    for entry in folder.iterdir():
        if entry.name != "lock" and not (same and entry.suffix in (".arrow", ".json")):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    write_json(file, plan)


def _flat(request: dict[str, Any]) -> dict[str, Any]:
    options = {flag(name): value for name, value in request.get("options", {}).items()}
    return {key.replace("_", " "): value for key, value in request.items() if key != "options"} | options


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
