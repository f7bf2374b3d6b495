"""Files that are there whole or not at all."""

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
from daydrive.locations import Location, is_remote, reached


def check_folder(path: Path, what: str) -> Path:
    """The nearest folder that is there, `path` itself or one above it; leaves no trace.

    Raises UserError naming `what` it is for where `path` can't become or be a folder that is written to.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"the {what} {path} is a file; give a folder")
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        tempfile.TemporaryDirectory(prefix=".daydrive-", dir=there).cleanup()
    except OSError as error:
        raise UserError(f"the {what} {path} can't be written: {error.strerror or error}") from None
    return there


@contextmanager
def parents_made(path: Path) -> Iterator[None]:
    """Make the folders above `path`; those that were not there before and are empty in the end are gone again."""
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
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it doesn't."""
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
        with reached(path):
            path.write_text(text, encoding="utf-8")  # an object is there whole or not at all
        return
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Location, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Raises UserError naming file and line where the text is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: the {what} is not valid JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the {what} {path} can't be read: {error}") from None
