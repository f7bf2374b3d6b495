"""Recording a drive: a folder for the dataset `folder`, a video, and an action log that repeats the rollout.

<output>/drive-20261130-044501-k3f9/          images/, actions.csv, drive.json
<output>/drive-20261130-044501-k3f9.mp4
<output>/drive-20261130-044501-k3f9.ndjson    see `action_log`
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from daydrive.data.images import read_image
from daydrive.drive.simulators import Action
from daydrive.errors import UserError
from daydrive.files import check_folder, write_text
from daydrive.recording.recorder import IMAGES_FOLDER, PlannedDrive, write
from daydrive.types import Frame, Image
from daydrive.viz.images import write_video

WAITING_FRAMES = 256
"""Frames that may wait for the disk."""


class Recorded(NamedTuple):
    """The result of a recording. frames: number of rows of the drive; error: a sentence where it failed."""

    folder: Path
    frames: int
    error: str | None = None

    @property
    def video(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.mp4")

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.ndjson")


class Recording:
    """Writes frames in a thread of its own, in constant memory; a drive that cannot be completed is removed."""

    def __init__(self, output: Path, name: str, hz: float, settings: Mapping[str, Any]) -> None:
        """Raises UserError where `output` cannot be written."""
        check_folder(output, "folder of recordings")
        output.mkdir(parents=True, exist_ok=True)
        self._folder, self._hz, self._settings = output / name, hz, settings
        self._queue: queue.Queue[Frame | None] = queue.Queue(WAITING_FRAMES)
        self._log: str | None = None
        self.frames = 0
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"recording {name}")

    def start(self, finished: Callable[[Recorded], None]) -> None:
        """finished: called with the result in the recording's thread."""
        self._finished = finished
        self._thread.start()

    def add(self, image: Image, action: Action, speed: float | None) -> None:
        """A frame and the action from it to the next; waits if the disk is slower than the drive."""
        if self._error is None:
            values = {} if speed is None else {"speed": speed}
            self._queue.put(Frame(image, action, self.frames / self._hz, values))
            self.frames += 1

    def finish(self, log: str) -> None:
        """End the recording. log: the text of its action log."""
        self._log = log
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            drive = PlannedDrive(self._folder.name, 0, self._frames)
            write(drive, self._folder, self._settings, lambda _: None)
            recorded = Recorded(self._folder, self.frames)
            write_video(recorded.video, self._images(), self._hz)
            assert self._log is not None
            write_text(recorded.log, self._log)
        except (UserError, OSError) as error:
            self._error = str(error)
            self._discard()
            recorded = Recorded(self._folder, self.frames, f"the recording failed: {error}")
        self._finished(recorded)

    def _frames(self) -> Iterator[Frame]:
        while (frame := self._queue.get()) is not None:
            yield frame

    def _images(self) -> Iterator[Image]:
        for file in sorted((self._folder / IMAGES_FOLDER).iterdir()):
            image = read_image(file, str(file), (0, 0))
            assert not isinstance(image, bytes)
            yield image

    def _discard(self) -> None:
        """Take frames until the recording is ended, so that nothing waits for it."""
        while self._log is None:
            self._queue.get()
