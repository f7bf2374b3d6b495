"""The workspace of a preparation next to its target, and the publication of the finished store."""

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
    """Whether `target` already is the store described by `request`; always False with `overwrite`.

    Raises UserError if something else exists there that must not be replaced.
    """
    if not holds_store(target) or overwrite:
        return False
    existing, requested = _flat({"fit": "stretch", **read_metadata(target).get("request", {})}), _flat(request)
    differences = [
        f"its {key} is {_short(existing.get(key))}, not {_short(requested[key])}"
        for key in requested
        if existing.get(key) != requested[key]
    ]
    if differences:
        raise UserError(
            f"there is another store at {target}: {'; '.join(differences)}; choose another --output or --overwrite"
        )
    return True


def holds_store(target: Location) -> bool:
    """Whether a store exists at `target`. Raises UserError if something else does."""
    if is_remote(target):
        return exists(target) and exists(target / METADATA_FILE)
    if not target.exists() and not target.is_symlink():
        return False
    if not target.is_dir():
        raise UserError(f"the output {target} is a file; choose a folder")
    if not any(target.iterdir()):
        return False
    if not (target / METADATA_FILE).is_file():
        raise UserError(f"the output {target} is not a store; choose an empty or new folder")
    return True


@contextmanager
def workspace(target: Location, plan: dict[str, Any]) -> Iterator[Path]:
    """Lock `<target>.partial`, with the results of an earlier run of the same plan.

    The folder is removed at the end and after an error; an interruption (Ctrl-C, a kill, a full disk, an unreachable
    object store) leaves it for the next run.
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
def exclusive_lock(path: Location, doing: str) -> Iterator[None]:
    """Hold an exclusive lock on the folder of a store while writing; the system releases it when the process ends.

    There is no lock on object stores.
    """
    if is_remote(path):
        yield
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is {doing} {path} at this moment") from error
        yield
    finally:
        os.close(folder)


def partial(target: Location) -> Path:
    """The workspace of a target: next to a folder; for an object store, in `data/processed`."""
    if is_remote(target):
        digest = hashlib.sha256(str(target).encode()).hexdigest()[:8]
        return Path("data") / "processed" / f"{target.name}-{digest}.partial"
    return target.with_name(target.name + ".partial")


def publish(folder: Path, target: Path) -> None:
    """Rename the finished store in the workspace to `target`, moving an existing folder away first."""
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
