"""Where an image goes: the file's suffix says whether it is a still or a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from daydrive.errors import UserError
from daydrive.files import atomic_replace, check_folder
from daydrive.types import Image
from daydrive.viz.images import encode_gif, write_png, write_video

STILL, MOVING = (".png",), (".png", ".mp4", ".gif")


def check_output(output: Path, kind: str, fits: tuple[str, ...]) -> None:
    """UserError where `output` has another suffix than those that fit or can't be written; leaves no trace."""
    if output.suffix.lower() not in fits:
        *others, last = fits
        message = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"--output {output}: {kind} is drawn as {message}, which the file's name has to end in")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; name a file in it, such as {output / (kind + fits[0])}")
    check_folder(output.parent, "folder of --output")


def save(output: Path, still: Callable[[], Image], video: Callable[[], Iterator[Image]], hz: float) -> None:
    """Draws the one or the other, as the suffix says, and writes it whole or not at all."""
    suffix = output.suffix.lower()
    if suffix == ".png":
        write_png(output, still())
    elif suffix == ".mp4":
        write_video(output, video(), hz)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        gif = encode_gif(np.stack(list(video())), hz)
        with atomic_replace(output) as temporary:
            temporary.write_bytes(gif)
