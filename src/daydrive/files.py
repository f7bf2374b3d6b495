"""Atomic writing of files and folders."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from daydrive.errors import UserError
from daydrive.locations import Location, is_remote, object_store_errors


def check_folder(path: Path, what: str) -> Path:
    """Check that `path` is or can become a writable folder; returns the nearest existing folder, `path` or one above
    it.

    Raises UserError naming `what` it is. Leaves nothing behind.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"the {what} {path} is a file; give a folder")
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        tempfile.TemporaryDirectory(prefix=".daydrive-", dir=existing).cleanup()
    except OSError as error:
        raise UserError(f"the {what} {path} cannot be written: {error.strerror or error}") from None
    return existing


@contextmanager
def created_parents(path: Path) -> Iterator[None]:
    """Create the folders above `path`; new ones that are empty at the end are removed again."""
    parents = path.absolute().parents
    absent = [parent for parent in parents if not parent.exists()]
    parents[0].mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            for parent in absent:
                parent.rmdir()


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it at the end, or removed after an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path: Location, text: str) -> None:
    if is_remote(path):
        with object_store_errors(path):
            path.write_text(text, encoding="utf-8")  # object stores write atomically
        return
    with atomic_replace(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Location, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file. Raises UserError with file and line where it is not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: the {what} is not valid JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the {what} {path} cannot be read: {error}") from None
