"""Writing a visualization: the file's suffix selects a still image or a video."""

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
    """Raise UserError if `output` has a suffix that is not in `fits` or cannot be written; creates nothing."""
    if output.suffix.lower() not in fits:
        *others, last = fits
        message = f"{', '.join(others)} or {last}" if others else last
        raise UserError(f"--output {output}: {kind} is written as {message}, so the file name has to end in that")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; name a file in it, such as {output / (kind + fits[0])}")
    check_folder(output.parent, "folder of --output")


def save(output: Path, still: Callable[[], Image], video: Callable[[], Iterator[Image]], hz: float) -> None:
    """Draw the still image or the video, depending on the suffix, and write it atomically."""
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
