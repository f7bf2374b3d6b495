"""Writing recorded drives to folders, atomically and resumably.

<output>/<drive>/images/00000.jpg …
                 actions.csv     steering,throttle,brake,gear,time and further values of the environment
                 drive.json      settings of the recording
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daydrive.data.images import encode
from daydrive.errors import UserError
from daydrive.files import atomic_replace, check_folder, created_parents, read_json, write_json
from daydrive.progress import DriveProgress
from daydrive.types import ACTION_NAMES, Frame
from daydrive.version import __version__
from daydrive.workspace import exclusive_lock

ACTIONS_FILE, METADATA_FILE, IMAGES_FOLDER = "actions.csv", "drive.json", "images"


@dataclass(frozen=True)
class PlannedDrive:
    """A drive to be recorded. frames: starts the drive anew at each call and yields its frames. note: metadata of the
    drive for `drive.json`, called after its last frame."""

    name: str
    length: int
    frames: Callable[[], Iterator[Frame]]
    note: Callable[[], Mapping[str, Any]] = dict


def record(drives: Sequence[PlannedDrive], output: Path, settings: Mapping[str, Any]) -> int:
    """Record the drives that `output` does not contain yet, and return their number.

    settings: of the recording; they must match those of the drives already in `output`. Raises UserError if they
    differ or if `output` cannot be written. Finished drives are never removed.
    """
    check_folder(output, "output of the recording")
    with created_parents(output), _locked_folder(output):
        _remove_leftovers(drives, output)
        existing = {drive.name for drive in drives if (output / drive.name).exists()}
        to_do = [drive for drive in drives if drive.name not in existing]
        _check_settings(sorted(existing), output, settings)
        with DriveProgress([drive.length for drive in drives], [drive.length for drive in to_do]) as progress:
            for drive in to_do:
                write(drive, output / drive.name, settings, progress.frames_done)
                progress.drive_done()
    return len(to_do)


def write(drive: PlannedDrive, folder: Path, settings: Mapping[str, Any], frames_done: Callable[[int], None]) -> None:
    """Record a drive into `folder` atomically. Raises UserError for fewer than 2 frames.

    frames_done: called with the number of new frames.
    """
    count = 0
    with atomic_replace(folder) as temporary:
        (temporary / IMAGES_FOLDER).mkdir(parents=True)
        with (
            (temporary / ACTIONS_FILE).open("w", newline="", encoding="utf-8") as file,
            closing(_frames(drive)) as frames,
        ):
            table = csv.writer(file, lineterminator="\n")
            for frame in frames:
                if count == 0:
                    table.writerow([*ACTION_NAMES, "time", *frame.values])
                image = frame.image if isinstance(frame.image, bytes) else encode(frame.image)
                (temporary / IMAGES_FOLDER / f"{count:05d}.jpg").write_bytes(image)
                numbers = [*frame.action.tolist(), frame.time, *frame.values.values()]
                table.writerow([f"{value:.7g}" if abs(value) < 1e6 else repr(float(value)) for value in numbers])
                count += 1
                frames_done(1)
            file.flush()
            os.fsync(file.fileno())
        if count < 2:
            raise UserError(f"the drive {drive.name} ended after {count} frames; a drive needs at least 2")
        note = {"daydrive": __version__, "settings": dict(settings), "frames": count, **drive.note()}
        write_json(temporary / METADATA_FILE, note)


def _frames(drive: PlannedDrive) -> Generator[Frame, None, None]:
    yield from drive.frames()


@contextmanager
def _locked_folder(output: Path) -> Iterator[None]:
    """Create and lock `output`; remove it in the end if it is empty."""
    output.mkdir(exist_ok=True)
    try:
        with exclusive_lock(output, lambda holder: f"{holder} is recording to {output}"):
            yield
    finally:
        with suppress(OSError):
            output.rmdir()


def _remove_leftovers(drives: Sequence[PlannedDrive], output: Path) -> None:
    """Remove temporary folders of a recording that was killed."""
    for drive in drives:
        for leftover in output.glob(f".{drive.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)


def _check_settings(names: Sequence[str], output: Path, settings: Mapping[str, Any]) -> None:
    for name in names:
        file = output / name / METADATA_FILE
        if not file.is_file():
            raise UserError(f"{output / name} is not a recording; choose another --output")
        note = read_json(file, "metadata of a drive")
        before = note.get("settings") if isinstance(note, dict) else None
        if not isinstance(before, dict):
            raise UserError(f"{file} has no settings of the recording; choose another --output")
        differing = next((key for key in settings if before.get(key) != settings[key]), None)
        if differing is not None:
            raise UserError(
                f"{output / name} was recorded with {differing} {before.get(differing)}, not {settings[differing]}; "
                "choose another --output"
            )
