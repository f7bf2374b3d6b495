"""Frames of a video file, streamed, upright, each decoded once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.data.images import SPARE, Shrunk
from daydrive.errors import UserError
from daydrive.types import Image

if TYPE_CHECKING:
    import av

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov")

DEVICES = ("cuda", "videotoolbox", "vaapi", "d3d11va", "qsv")
"""what may decode in place of the processor, by FFmpeg's names"""

LARGEST = 1 << 27
"""pixels of a picture; 8K has 2^25"""

WITHOUT_TIMES = ("avi",)
"""containers whose times say in which order frames were encoded, not when they are shown"""


class _Decoded(NamedTuple):
    """A frame and when it is shown, s on the file's own clock."""

    time: float
    frame: av.VideoFrame


@cache
def hardware() -> str | None:
    """The device that decodes video on this machine; None where the processor does."""
    import av
    from av.codec.hwaccel import HWAccel, hwdevices_available

    for device in DEVICES:
        if device in hwdevices_available():
            try:
                HWAccel(device, allow_software_fallback=False).create(av.Codec("h264", "r"))
                return device
            except (av.FFmpegError, OSError, RuntimeError, NotImplementedError, ValueError):
                continue
    return None


def frame_rate(file: Path) -> float:
    """Frames a second that the file declares."""
    import av

    try:
        with av.open(str(file)) as container:
            rate = container.streams.video[0].average_rate
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"the video {file} cannot be read ({_reason(error)})") from error
    if not rate:
        raise UserError(f"the video {file} does not say its frame rate; add a time column to the CSV beside it")
    return float(rate)


def made_at(file: Path) -> datetime | None:
    """When the file says that it was recorded, in UTC; None where it doesn't."""
    import av

    try:
        with av.open(str(file)) as container:
            moment = datetime.fromisoformat(container.metadata["creation_time"])
    except (KeyError, ValueError):
        return None
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"the video {file} cannot be read ({_reason(error)})") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def frame_times(file: Path) -> npt.NDArray[np.float64]:
    """(N,) s, strictly increasing: when each frame is shown, on the file's own clock. Nothing is decoded.

    Evenly at the declared rate where the file has no such times (AVI). UserError where it has fewer than two frames.
    """
    import av

    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            shown = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
            base, rate = stream.time_base, stream.average_rate
            timed = _timed(container) and None not in shown
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(f"the video {file} cannot be read ({_reason(error)})") from error
    if len(shown) < 2:
        raise UserError(f"the video {file} has {len(shown)} frames; a drive needs at least 2")
    if timed and base:
        return np.unique(np.array(shown, dtype=np.float64)) * float(base)
    if not rate:
        raise UserError(f"the video {file} says neither the times of its frames nor their rate")
    return np.arange(len(shown)) / float(rate)


def frames_at(
    file: Path, moments: npt.NDArray[np.float64], tolerance: float, size: tuple[int, int] | None = None
) -> Iterator[Image]:
    """For each of `moments`, (K,) s on the file's own clock, not decreasing, the nearest frame, uint8 (H, W, 3) RGB.

    size: that of the store's pictures, (H, W), for a caller who hands pictures on as they are; what is far larger
    becomes a `Shrunk`. What lies before the first moment is jumped over. UserError where no frame is within `tolerance`
    seconds of a moment.
    """
    decoded = _decoded(file, float(moments[0]))
    upright = _Upright(size)
    before: _Decoded | None = None
    after = next(decoded, None)
    image: Image | None = None
    for moment in moments.tolist():
        while after is not None and after.time <= moment:
            before, after, image = after, next(decoded, None), None
        if after is not None and (before is None or after.time - moment < moment - before.time):
            before, after, image = after, next(decoded, None), None
        if before is None or abs(before.time - moment) > tolerance:
            raise UserError(f"the video {file} has no frame at {moment:.3f} s")
        if image is None:
            image = upright(before.frame)
        yield image


def frames(file: Path, chosen: Sequence[int], rows: int, table: Path) -> Iterator[tuple[int, Image]]:
    """The frames with the numbers in `chosen`, which do not decrease, as (number, uint8 (H, W, 3) RGB).

    rows: how many frames there have to be, one for each row of `table`; UserError where there are fewer or more.
    """
    wanted = iter(chosen)
    next_one = next(wanted, None)
    seen, upright = 0, _Upright()
    for _, frame in _decoded(file):
        if next_one == seen:
            image = upright(frame)
            while next_one == seen:
                yield seen, image
                next_one = next(wanted, None)
        seen += 1
        if next_one is None and chosen[-1] < rows - 1:
            return
        if seen > rows:
            raise UserError(f"the video {file} has more frames than {table} has rows ({rows})")
    if seen < rows:
        raise UserError(f"the video {file} has {seen} frames for the {rows} rows of {table}")


class _Upright:
    """YUV → RGB, turned as the camera was held. One that is far larger than `size` (H, W) is made small on the way, a
    `Shrunk`: on 1920x1080 to 64x64 that is 2.8 times as fast, and 47 dB from the same made from the whole picture."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self.converter, self.size = VideoReformatter(), size

    def __call__(self, frame: av.VideoFrame) -> Image:
        turns = round(frame.rotation / 90) % 4
        divisor = self._divisor(frame.height, frame.width, lying=turns % 2 == 1)
        rows, columns = math.ceil(frame.height / divisor), math.ceil(frame.width / divisor)
        made = self.converter.reformat(frame, columns, rows, "rgb24", interpolation="AREA" if divisor > 1 else None)
        image = np.asarray(made.to_ndarray(), dtype=np.uint8)
        upright = np.ascontiguousarray(np.rot90(image, turns)) if turns else image
        if divisor == 1:
            return upright
        small = upright.view(Shrunk)
        small.recorded = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
        return small

    def _divisor(self, height: int, width: int, lying: bool) -> int:
        if self.size is None:
            return 1
        rows, columns = self.size[::-1] if lying else self.size
        return max(1, min(height // (SPARE * rows), width // (SPARE * columns)))


def _decoded(file: Path, start: float | None = None) -> Iterator[_Decoded]:
    """All frames in the order they are shown in, or those from the key frame before `start` on.

    A device that cannot decode this file leaves it to the processor.
    """
    import av

    device, seen = hardware(), 0
    while True:
        try:
            for item in _decode(file, start, device):
                seen += 1
                yield item
            return
        except (av.FFmpegError, IndexError, OSError, RuntimeError, NotImplementedError) as error:
            if device is None or seen:
                raise UserError(f"the video {file} cannot be read at frame {seen} ({_reason(error)})") from error
            device = None


def _decode(file: Path, start: float | None, device: str | None) -> Iterator[_Decoded]:
    import av
    from av.codec.hwaccel import HWAccel

    accelerator = HWAccel(device, allow_software_fallback=True) if device else None
    with av.open(str(file), hwaccel=accelerator) as container:
        stream = container.streams.video[0]
        if stream.width * stream.height > LARGEST:
            raise UserError(
                f"the video {file} says its pictures are {stream.height}x{stream.width}, too large to decode"
            )
        timed, base = _timed(container), stream.time_base
        if start and timed and base:
            container.seek(int(start / base), stream=stream, backward=True)
        rate = float(stream.average_rate or 0.0)
        for count, frame in enumerate(container.decode(stream)):
            if timed and frame.time is not None:
                yield _Decoded(frame.time, frame)
            else:
                yield _Decoded(count / rate if rate else float(count), frame)


def _timed(container: av.container.InputContainer) -> bool:
    return not any(name in WITHOUT_TIMES for name in container.format.name.split(","))


def _reason(error: Exception) -> str:
    return str(error).replace("\n", " ") or type(error).__name__
