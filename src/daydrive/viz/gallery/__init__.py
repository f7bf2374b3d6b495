"""Drives of a store as images and as an HTML page: thumbnails and actions on a timeline."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2

from daydrive.data.store.store import DriveInfo, Store
from daydrive.errors import UserError, did_you_mean
from daydrive.files import atomic_replace, check_folder, write_text
from daydrive.viz.gallery.page import page
from daydrive.viz.gallery.reading import read_drive
from daydrive.viz.gallery.timeline import sheet

PAGE = "index.html"

__all__ = ["PAGE", "choose_drives", "show"]


def choose_drives(store: Store, names: Sequence[str], limit: int) -> list[DriveInfo]:
    """The drives with these names or, without names, `limit` drives spread evenly over the store.

    Raises UserError for an unknown name.
    """
    drives = {drive.name: drive for drive in store.drives}
    for name in names:
        if name not in drives:
            raise UserError(f"the store {store.path} has no drive '{name}'{did_you_mean(name, drives)}")
    if names:
        return [drives[name] for name in dict.fromkeys(names)]
    count = min(limit, len(store.drives))
    return [store.drives[k * len(store.drives) // count] for k in range(count)]


def show(store: Store, drives: Sequence[DriveInfo], output: Path, images: int) -> list[Path]:
    """Write a PNG of each drive and one page with all of them into the folder `output`; returns the files.

    images: maximum number of images per drive. The page is a single self-contained file.
    """
    check_folder(output, "folder of --output")
    output.mkdir(parents=True, exist_ok=True)
    files, shown = [], []
    for number, drive in enumerate(drives):
        view = read_drive(store, drive, images)
        file = output / f"{number:03d}_{_slug(drive.name)}.png"
        with atomic_replace(file) as temporary:
            temporary.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet(view), cv2.COLOR_RGB2BGR))[1].tobytes())
        files.append(file)
        shown.append(view)
    write_text(output / PAGE, page(store, shown))
    return [output / PAGE, *files]


def _slug(name: str) -> str:
    """A file name from a drive's name: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:80] or "drive"
