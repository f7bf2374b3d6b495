"""Weights that are part of the package, by name: folders like those of `daydrive.save_pretrained`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from daydrive.errors import UserError

FOLDER = Path(str(files("daydrive"))) / "weights"
NAMES = ("road",)
"""road: the road world."""


def find_weights(name: str) -> Path | None:
    """The folder of the weights with a name; None if no weights have it.

    Raises UserError where this installation lacks them.
    """
    if name not in NAMES:
        return None
    folder = FOLDER / name
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"the weights '{name}' are not part of this installation of daydrive; make them from a run with `daydrive "
            f"export --checkpoint RUN --format pretrained --precision float16 --output {folder}`"
        )
    return folder
