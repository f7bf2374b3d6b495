"""Frames of a video file, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from daydrive.errors import UserError
from daydrive.types import Image

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov")


def frame_rate(file: Path) -> float:
    """Frames a second that the file declares."""
    import av

    try:
        with av.open(str(file)) as container:
            rate = container.streams.video[0].average_rate
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"the video {file} cannot be read ({error})") from error
    if not rate:
        raise UserError(f"the video {file} does not say its frame rate; add a time column to the CSV beside it")
    return float(rate)


def frames(file: Path, chosen: Sequence[int], rows: int, table: Path) -> Iterator[tuple[int, Image]]:
    """The frames with the numbers in `chosen`, which do not decrease, as (number, uint8 (H, W, 3) RGB).

    rows: how many frames there have to be, one for each row of `table`; UserError where there are fewer or more.
    """
    import av
    from av.video.reformatter import VideoReformatter

    wanted = iter(chosen)
    next_one = next(wanted, None)
    seen, converter = 0, VideoReformatter()
    try:
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                if next_one == seen:
                    image = np.asarray(converter.reformat(frame, format="rgb24").to_ndarray(), dtype=np.uint8)
                    while next_one == seen:
                        yield seen, image
                        next_one = next(wanted, None)
                seen += 1
                if next_one is None and chosen[-1] < rows - 1:
                    return
                if seen > rows:
                    raise UserError(f"the video {file} has more frames than {table} has rows ({rows})")
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"the video {file} cannot be read at frame {seen} ({error})") from error
    if seen < rows:
        raise UserError(f"the video {file} has {seen} frames for the {rows} rows of {table}")
