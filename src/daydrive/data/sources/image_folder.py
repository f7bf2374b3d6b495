"""Folders of images that the rows of a table name."""

from __future__ import annotations

import os
from pathlib import Path

from daydrive.data.images import damage
from daydrive.data.sources.files import inside


class ImageFolder:
    """The images of a folder, which must not lead out of `root`; raises UserError if it does."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self._root = inside(folder, root), root
        self._is_link: dict[str, bool] = {}
        if folder.is_dir():
            with os.scandir(folder) as found:
                self._is_link = {entry.name: entry.is_symlink() for entry in found}

    def __contains__(self, name: str) -> bool:
        return name in self._is_link

    def problem(self, name: str) -> str | None:
        """'missing', 'empty' or 'damaged'; None if the image can be read. Raises UserError for a link out of `root`."""
        if name not in self._is_link:
            return "missing"
        path = self.folder / name
        return damage(inside(path, self._root) if self._is_link[name] else path)
