"""Takes become folders: one that is there is whole, and a recording that was ended goes on with those that are missing.

<output>/<take>/images/00000.jpg …
                actions.csv     steering,throttle,brake,gear,time and what else the environment tells
                drive.json      how it was recorded
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

from daydrive import __version__
from daydrive.data.images import encode
from daydrive.errors import UserError
from daydrive.files import atomic_replace, check_folder, created_parents, read_json, write_json
from daydrive.progress import DriveProgress
from daydrive.types import ACTION_NAMES, Frame
from daydrive.workspace import exclusive_lock

TABLE, NOTE, IMAGES = "actions.csv", "drive.json", "images"


@dataclass(frozen=True)
class Take:
    """One drive to be recorded. frames: drives it, from the beginning at each call. note: what is worth knowing about
    the drive, asked when it is over."""

    name: str
    length: int
    frames: Callable[[], Iterator[Frame]]
    note: Callable[[], Mapping[str, Any]] = dict


def record(takes: Sequence[Take], output: Path, settings: Mapping[str, Any]) -> int:
    """Records the takes that are not in `output` yet and returns how many these were.

    settings: what the recording is; they have to agree with those of takes that are there already. UserError where
    they don't, or where `output` can't be written; takes that are finished then remain.
    """
    check_folder(output, "output of the recording")
    with created_parents(output), _folder(output):
        _clear(takes, output)
        there = {take.name for take in takes if (output / take.name).exists()}
        to_do = [take for take in takes if take.name not in there]
        _check_settings(sorted(there), output, settings)
        with DriveProgress([take.length for take in takes], [take.length for take in to_do]) as progress:
            for take in to_do:
                write(take, output / take.name, settings, progress.frames_done)
                progress.drive_done()
    return len(to_do)


def write(take: Take, folder: Path, settings: Mapping[str, Any], seen: Callable[[int], None]) -> None:
    """Drives a take and writes it to `folder`, which is there whole or not at all. UserError for less than 2 frames."""
    count = 0
    with atomic_replace(folder) as temporary:
        (temporary / IMAGES).mkdir(parents=True)
        with (temporary / TABLE).open("w", newline="", encoding="utf-8") as file, closing(_driven(take)) as frames:
            table = csv.writer(file, lineterminator="\n")
            for frame in frames:
                if count == 0:
                    table.writerow([*ACTION_NAMES, "time", *frame.values])
                image = frame.image if isinstance(frame.image, bytes) else encode(frame.image)
                (temporary / IMAGES / f"{count:05d}.jpg").write_bytes(image)
                numbers = [*frame.action.tolist(), frame.time, *frame.values.values()]
                table.writerow([f"{value:.7g}" if abs(value) < 1e6 else repr(float(value)) for value in numbers])
                count += 1
                seen(1)
            file.flush()
            os.fsync(file.fileno())
        if count < 2:
            raise UserError(f"the drive {take.name} ended after {count} frames, and a drive has at least 2")
        note = {"daydrive": __version__, "settings": dict(settings), "frames": count, **take.note()}
        write_json(temporary / NOTE, note)


def _driven(take: Take) -> Generator[Frame, None, None]:
    yield from take.frames()


@contextmanager
def _folder(output: Path) -> Iterator[None]:
    """`output`, locked for this process; gone again where it was not there and is empty in the end."""
    output.mkdir(exist_ok=True)
    try:
        with exclusive_lock(output, lambda holder: f"{holder} is recording to {output} at this moment"):
            yield
    finally:
        with suppress(OSError):
            output.rmdir()


def _clear(takes: Sequence[Take], output: Path) -> None:
    """What a recording left that was killed."""
    for take in takes:
        for left in output.glob(f".{take.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)


def _check_settings(there: Sequence[str], output: Path, settings: Mapping[str, Any]) -> None:
    for name in there:
        file = output / name / NOTE
        if not file.is_file():
            raise UserError(f"{output / name} is something else than a recording; give another --output")
        note = read_json(file, "note of a drive")
        before = note.get("settings") if isinstance(note, dict) else None
        if not isinstance(before, dict):
            raise UserError(f"{file} doesn't say how the drive was recorded; give another --output")
        other = next((key for key in settings if before.get(key) != settings[key]), None)
        if other is not None:
            raise UserError(
                f"{output / name} was recorded with {other} {before.get(other)}, not {settings[other]}; "
                "give another --output"
            )
