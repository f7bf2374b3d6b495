"""Files and folders of a raw data set, in natural order and never outside the data root; text and JSON in them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daydrive.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

SYSTEM_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information")
"""Files and folders that operating systems add, in lower case; hidden ones begin with a dot."""

TEMPORARY_SUFFIXES = ("~", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp")


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key for natural order: f2 before f10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def inside(path: Path, root: Path) -> Path:
    """`path`; raises UserError if it resolves to a path outside `root`."""
    try:
        real = path.resolve()
        if real.is_relative_to(root.resolve()):
            return path
    except (OSError, RuntimeError) as error:  # links in a circle
        raise UserError(f"{path} cannot be resolved ({error})") from error
    raise UserError(f"{path} is a link out of the data root, to {real}; set a --data-root that contains both")


def is_recorded(name: str) -> bool:
    """Whether a file or folder of this name belongs to a recording: not hidden (such as macOS' `._*`), not added by an
    operating system, not temporary."""
    lower = name.lower()
    return not (lower.startswith(".") or lower in SYSTEM_NAMES or lower.endswith(TEMPORARY_SUFFIXES))


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """The files and folders of a recording that match `pattern`, directly in `folder`, in natural order."""
    return sorted((path for path in folder.glob(pattern) if is_recorded(path.name)), key=natural)


def subfolders(folder: Path) -> list[Path]:
    """The subfolders in natural order, without those that `is_recorded` excludes."""
    with os.scandir(folder) as found:
        names = [entry.name for entry in found if is_recorded(entry.name) and _is_folder(entry)]
    return sorted((folder / name for name in names), key=natural)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def find_folders(root: Path, predicate: Callable[[Path], bool], depth: int, nested: bool = False) -> list[Path]:
    """The folders that match `predicate`, in natural order: `root` itself or folders up to `depth` levels below it.

    nested: search matching folders further.
    """
    found = [root] if predicate(root) else []
    if depth and (nested or not found):
        for folder in subfolders(root):
            found += find_folders(inside(folder, root), predicate, depth - 1, nested)
    return found


def image_files(folder: Path) -> list[Path]:
    """The JPEG and PNG files of a folder in natural order; raises UserError if there are none."""
    found = [file for file in entries(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise UserError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
    return found


def read_text(file: Path, root: Path) -> str:
    """The text of a file below `root`; raises UserError if it cannot be read."""
    try:
        return inside(file, root).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error


def json_object(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object in `text`; raises UserError, naming `where`, for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error).splitlines()[0]})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: a {type(found).__name__}, expected a JSON object")
    return found
