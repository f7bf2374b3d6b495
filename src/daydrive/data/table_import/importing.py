"""From a table and its images to a mapping file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from daydrive.data import video
from daydrive.data.sources.files import IMAGE_SUFFIXES, entries, subfolders
from daydrive.data.sources.mapped.columns import Array, Table, read_table
from daydrive.data.sources.mapped.mapping_file import FILE, Quantity, TimeColumn
from daydrive.data.sources.mapped.mapping_file import Mapping as MappingFile
from daydrive.data.sources.mapped.recording import Recording, frame_clock, is_number, read_recording
from daydrive.data.sources.timestamps import UNITS
from daydrive.data.table_import.evidence import Agreement, ImageTurn, agreement, image_turn
from daydrive.data.table_import.guess import Guess, guess_columns
from daydrive.errors import UserError
from daydrive.files import write_text

MAX_CANDIDATES = 40
"""Columns that are compared with the images if none is called steering."""


@dataclass(frozen=True)
class Imported:
    """mapping: as written to `file`. steering: how it agrees with the images, and before a sign was inverted. turn: of
    the camera in a part of the recording, which begins at frame `turn.first`."""

    file: Path
    table: Table
    mapping: MappingFile
    guesses: dict[str, Guess]
    recording: Recording
    turn: ImageTurn
    steering: Agreement


def import_table(
    file: Path, images: Path | None, given: Mapping[str, str], output: Path | None, overwrite: bool
) -> Imported:
    """Guess the mapping of a table, compare it with the images and write it.

    images: folder or video below the table's folder; by default the only one there. given: columns by quantity. output:
    the mapping file, by default `mapping.yaml` beside the table. Raises UserError if there are no images, they do not
    fit the table, no column is an action, or the output exists and is not to be overwritten.
    """
    folder = file.parent
    output = folder / FILE if output is None else output
    if output.exists() and not overwrite:
        raise UserError(f"{output} already exists; --overwrite replaces it")
    if not file.is_file():
        raise UserError(f"{file} does not exist")
    table = read_table(file)
    guesses = guess_columns(table, given)
    location = find_images(folder) if images is None else images
    if not location.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--images {location}: must be below {folder}, the folder of the table")
    mapping = _mapping(table, location, guesses)
    mapping, guesses = _aligned(table, folder, mapping, guesses)
    if "steering" not in guesses:
        guesses = {**guesses, **_steering_by_images(table, folder, mapping, guesses)}
        mapping = mapping.model_copy(update=_quantities(guesses))
    if not mapping.quantities().keys() - {"speed"}:
        raise UserError(f"{file} has no column that is an action by its name or by the images; name one with "
                        f"--steering, --throttle or --brake; its columns: {', '.join(table.names[:12])}")  # fmt: skip
    recording = read_recording(folder, folder, mapping, None)
    turn = image_turn(recording, recording.actions[:, 0])
    found = agreement(recording.actions[:, 0], turn, _speed(recording))
    if found.is_clear and found.correlation < 0.0 and "steering" in guesses:
        guess = guesses["steering"]
        reason = f"{guess.reason}; positive to the left by the images"
        guesses = {**guesses, "steering": replace(guess, scale=-(guess.scale or 1.0), reason=reason)}
        mapping = mapping.model_copy(update=_quantities(guesses))
        recording = read_recording(folder, folder, mapping, None)
    comments = ["Written by `daydrive data import-table`; read by --dataset table. Check units and signs."]
    comments += [f"{name}: {guess.unit} ({guess.reason})" for name, guess in guesses.items()]
    write_text(output, mapping.to_yaml(comments))
    return Imported(output, table, mapping, guesses, recording, turn, found)


def find_images(folder: Path) -> Path:
    """The only video in a folder, or its only subfolder with images; raises UserError if that is not clear."""
    videos = [file for file in entries(folder) if file.suffix.lower() in video.SUFFIXES]
    folders = [f for f in (folder, *subfolders(folder)) if _has_images(f)]
    found = [*videos, *folders]
    if len(found) != 1:
        names = ", ".join(location.name for location in found) or "none"
        raise UserError(f"{folder} has {len(found)} videos and folders with images ({names}); name one with --images")
    return found[0]


def _has_images(folder: Path) -> bool:
    return any(file.suffix.lower() in IMAGE_SUFFIXES for file in entries(folder))


def _mapping(table: Table, location: Path, guesses: Mapping[str, Guess]) -> MappingFile:
    """The mapping by the guesses, with the column that names the images of a folder, if there is one."""
    folder = table.file.parent
    column = None
    if location.is_dir():
        names = {file.name for file in entries(location)}
        column = next((name for name, cells in table.texts.items() if _base(cells[0]) in names), None)
    where = location.resolve().relative_to(folder.resolve()).as_posix()
    return MappingFile(table=table.file.name, images=where, image_column=column, **_quantities(guesses))


def _base(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _quantities(guesses: Mapping[str, Guess]) -> dict[str, Quantity | TimeColumn]:
    found: dict[str, Quantity | TimeColumn] = {}
    for name, guess in guesses.items():
        if name == "time":
            found[name] = TimeColumn(column=guess.column, scale=guess.scale or 1.0, offset=guess.offset)
        else:
            plain = guess.scale == 1.0 and guess.offset == 0.0 and name != "speed"
            found[name] = Quantity(column=guess.column, scale=None if plain else guess.scale, offset=guess.offset)
    return found


def _aligned(
    table: Table, folder: Path, mapping: MappingFile, guesses: dict[str, Guess]
) -> tuple[MappingFile, dict[str, Guess]]:
    """The mapping with images named by their time, or the times of a video fitted to those of the table, where there is
    not one row per image."""
    time = guesses.get("time")
    location = folder / mapping.images
    if location.is_dir():
        stems = [file.stem for file in entries(location) if file.suffix.lower() in IMAGE_SUFFIXES]
        if (
            mapping.image_column is None
            and len(stems) != table.rows
            and time is not None
            and all(map(is_number, stems))
        ):
            scale = _scale_of_names(np.sort([float(stem) for stem in stems]), table, time)
            return mapping.model_copy(update={"image_time_scale": scale}), guesses
        return mapping, guesses
    clock = frame_clock(table, folder, folder, mapping)
    if clock.rows is not None or time is None or clock.times is None:
        return mapping, guesses
    duration = float(clock.times[-1])
    seconds = table.times(time.column)
    if not time.sure:
        time = replace(time, scale=min(UNITS.values(), key=lambda s: abs(np.log(s * np.ptp(seconds) / duration))))
        time = replace(time, unit=f"{time.scale:g} s", reason="the length of the video")
    start = float(seconds[0]) * (time.scale or 1.0)
    if start > duration or start < -duration:
        time = replace(
            time, offset=start, sure=False, reason=f"{time.reason}; the first row is taken for the first frame"
        )
    guesses = {**guesses, "time": time}
    return mapping.model_copy(update=_quantities(guesses)), guesses


def _scale_of_names(names: Array, table: Table, time: Guess) -> float:
    """Seconds per unit of the numbers that are the images' names, so that they fall into the times of the table."""
    seconds = table.times(time.column) * (time.scale or 1.0)
    for scale in UNITS.values():
        if names[-1] * scale >= seconds[0] and names[0] * scale <= seconds[-1]:
            return scale
    raise UserError(
        f"{table.file} has {table.rows} rows for {len(names)} images; their names are numbers, but not times of "
        f"its column {time.column}"
    )


def _steering_by_images(
    table: Table, folder: Path, mapping: MappingFile, guesses: Mapping[str, Guess]
) -> dict[str, Guess]:
    """The column that agrees best with the turn of the images, if one does clearly."""
    taken = {guess.column for guess in guesses.values()}
    usable = [n for n, v in table.numbers.items() if n not in taken and np.isfinite(v).all() and np.ptp(v) > 0.0]
    found: list[tuple[float, str]] = []
    turn: ImageTurn | None = None
    for name in usable[:MAX_CANDIDATES]:
        scale = 1.0 / float(np.abs(table.numbers[name]).max())
        trial = mapping.model_copy(update={"steering": Quantity(column=name, scale=scale)})
        recording = read_recording(folder, folder, trial, None)
        turn = turn or image_turn(recording, recording.actions[:, 0])
        found.append((abs(agreement(recording.actions[:, 0], turn, None).correlation), name))
    best = max((item for item in found if item[0] >= 0.6), default=None)
    if best is None:
        return {}
    (guess,) = guess_columns(replace_table(table, best[1]), {"steering": best[1]}).values()
    reason = f"it follows the motion of the images (correlation {best[0]:.2f})"
    return {"steering": replace(guess, reason=reason, sure=False)}


def replace_table(table: Table, column: str) -> Table:
    """The table with this column alone."""
    return Table(table.file, table.rows, {column: table.numbers[column]}, {})


def _speed(recording: Recording) -> Array | None:
    speed = recording.values[:, -1]
    return speed if np.isfinite(speed).all() and np.abs(speed).max() > 0.0 else None
