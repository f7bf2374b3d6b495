"""Writing of seekable video files."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from daydrive.errors import UserError

if TYPE_CHECKING:
    import av

CODEC = "libx264"
QUALITY = {"crf": "18", "g": "2", "bf": "0", "preset": "veryfast"}
"""Every second frame is a key frame, as in LeRobot's files, for fast random access."""

MAX_MB, FILES_IN_CHUNK = 200, 1000


class VideoFiles:
    """Writes consecutive episodes to `videos/<camera>/chunk-000/file-000.mp4` and following files of limited size."""

    def __init__(self, folder: Path, camera: str, fps: Fraction, size: tuple[int, int]) -> None:
        self.folder, self.camera, self.fps, self.size = folder / "videos" / camera, camera, fps, size
        self.file, self.frames = 0, 0
        self.container: av.container.OutputContainer | None = None
        self.stream: Any = None
        self.first_frame = True

    def __enter__(self) -> VideoFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._close()
        elif self.container is not None:
            with suppress(Exception):
                self.container.close()

    def start_episode(self, frames: int) -> dict[str, float]:
        """Start an episode of `frames` frames; return its position as columns of LeRobot's episodes table."""
        if self.container is not None and os.path.getsize(self.container.name) >= MAX_MB << 20:
            self._close()
            self.file += 1
        if self.container is None:
            self._open()
        self.first_frame = True
        chunk, file = divmod(self.file, FILES_IN_CHUNK)
        key = f"videos/{self.camera}"
        return {
            f"{key}/chunk_index": chunk,
            f"{key}/file_index": file,
            f"{key}/from_timestamp": float(self.frames / self.fps),
            f"{key}/to_timestamp": float((self.frames + frames) / self.fps),
        }

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Append a frame, uint8 (H, W, 3) RGB."""
        import av
        from av.video.frame import PictureType

        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = self.frames, 1 / self.fps
        if self.first_frame:
            frame.pict_type = PictureType.I
        self.first_frame = False
        self.frames += 1
        assert self.container is not None
        self.container.mux(self.stream.encode(frame))

    def _open(self) -> None:
        import av

        chunk, file = divmod(self.file, FILES_IN_CHUNK)
        path = self.folder / f"chunk-{chunk:03d}" / f"file-{file:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if CODEC not in av.codecs_available:
            raise UserError(f"this build of PyAV has no {CODEC}; install the official wheel: pip install av")
        self.container = av.open(str(path), "w")
        self.stream = self.container.add_stream(CODEC, rate=self.fps, options=QUALITY)
        self.stream.height, self.stream.width, self.stream.pix_fmt = *self.size, "yuv420p"
        self.stream.codec_context.time_base = 1 / self.fps
        self.frames = 0

    def _close(self) -> None:
        if self.container is not None:
            container, self.container = self.container, None
            container.mux(self.stream.encode(None))
            container.close()
