"""A table with its images: the frames with their times, actions and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
import numpy.typing as npt

from daydrive.data import video
from daydrive.data.images import read_image
from daydrive.data.kinematics.signals import covered, means_between
from daydrive.data.sources.files import image_files, inside
from daydrive.data.sources.mapped.columns import Array, Table, read_table
from daydrive.data.sources.mapped.mapping_file import Mapping
from daydrive.data.sources.mapping import ColumnMapping
from daydrive.errors import UserError
from daydrive.types import Image

DEFAULT_HZ = 10.0
TOLERANCE = 0.1
"""Maximum distance of a frame to the nearest row of a table with its own times, s; or 1.5 of the table's intervals."""


@dataclass(frozen=True)
class Recording:
    """files: (N,) images, empty for a video. times: (N,) s of the frames. actions: (N, 4) from each frame to the next.
    values: (N, 5), the columns of `mapping.VALUES`. known: indices of the frames that the table covers."""

    folder: Path
    files: Sequence[Path]
    video: Path | None
    times: Array
    actions: Array
    values: Array
    known: npt.NDArray[np.int64]
    columns: ColumnMapping

    def images(self, chosen: Sequence[int], size: tuple[int, int]) -> Iterator[Image | bytes]:
        """The images of the chosen frames, in non-decreasing order."""
        if self.video is not None:
            moments = video.frame_times(self.video).seconds[list(chosen)]
            yield from video.frames_at(self.video, moments, 1e-3, size)
            return
        for index in chosen:
            yield read_image(self.files[index], str(self.folder), size, shrink=True)


@dataclass(frozen=True)
class FrameClock:
    """The frames of a recording. times: (N,) s, None where only their order is known. rows: (N,) of the table for each
    frame; None if the table has times of its own."""

    files: Sequence[Path]
    video: Path | None
    times: Array | None
    rows: npt.NDArray[np.int64] | None


def frame_clock(table: Table, folder: Path, root: Path, mapping: Mapping) -> FrameClock:
    """How the frames of a recording are timed and related to the rows of its table; raises UserError if they do not
    fit."""
    images = inside(folder / mapping.images, root)
    if images.suffix.lower() in video.SUFFIXES:
        times = video.frame_times(images).seconds
        per_row = len(times) == table.rows
        if not per_row and mapping.time is None:
            raise UserError(f"{table.file} has {table.rows} rows for the {len(times)} frames of {images.name}; without "
                            "a time column it needs one row per frame")  # fmt: skip
        return FrameClock([], images, times - times[0], np.arange(table.rows) if per_row else None)
    if not images.is_dir():
        raise UserError(f"{images} does not exist; it has to be the folder of the images of {table.file}, or a video")
    if mapping.image_column is not None:
        return FrameClock(_named_files(table, mapping.image_column, images, root), None, None, np.arange(table.rows))
    files = [inside(file, root) for file in image_files(images)]
    if mapping.image_time_scale is not None:
        return _timed_files(files, mapping.image_time_scale, table, mapping)
    if len(files) != table.rows:
        raise UserError(f"{table.file} has {table.rows} rows for the {len(files)} images in {images}; without a column "
                        "of image names (image_column) it needs one row per image")  # fmt: skip
    return FrameClock(files, None, None, np.arange(table.rows))


def read_recording(folder: Path, root: Path, mapping: Mapping, hz: float | None) -> Recording:
    """Read a recording; hz: rate of images without times, `DEFAULT_HZ` by default."""
    table = read_table(inside(folder / mapping.table, root))
    clock = frame_clock(table, folder, root, mapping)
    columns = ColumnMapping(
        {name: quantity.column for name, quantity in mapping.quantities().items()},
        {name: quantity.scale for name, quantity in mapping.quantities().items() if quantity.scale is not None},
    )
    recorded = {name: table.column(quantity.column, name) for name, quantity in mapping.quantities().items()}
    centered = {name: recorded[name] - quantity.offset for name, quantity in mapping.quantities().items()}
    actions = columns.actions(centered, lambda row: f"{table.file}, {table.row(row)}")
    values = columns.values(recorded)
    row_times = None if mapping.time is None else _row_times(table, mapping)
    if clock.rows is not None:
        times = row_times if row_times is not None else clock.times
        times = np.arange(len(clock.rows)) / (hz or DEFAULT_HZ) if times is None else times
        known = np.arange(len(clock.rows))
        return Recording(folder, clock.files, clock.video, times, actions, values, known, columns)
    assert row_times is not None and clock.times is not None
    known = np.flatnonzero(covered(row_times, clock.times, max(TOLERANCE, 1.5 * float(np.median(np.diff(row_times))))))
    if not len(known):
        raise UserError(
            f"{table.file} covers {row_times[0]:.9g} to {row_times[-1]:.9g} s, but its images cover "
            f"{clock.times[0]:.9g} to {clock.times[-1]:.9g} s; set time.scale and time.offset in the mapping file"
        )
    actions, values = _at_frames(row_times, actions, values, clock.times)
    return Recording(folder, clock.files, clock.video, clock.times, actions, values, known, columns)


def _row_times(table: Table, mapping: Mapping) -> Array:
    time = mapping.time
    assert time is not None
    times = table.times(time.column) * time.scale - time.offset
    late = np.flatnonzero(np.diff(times) <= 0.0)
    if len(late):
        row = int(late[0]) + 1
        raise UserError(f"{table.file}, {table.row(row)}: {time.column} is not later than in the row before")
    return times


def _at_frames(row_times: Array, actions: Array, values: Array, frames: Array) -> tuple[Array, Array]:
    """Actions (N, 4) and values (N, 5) of rows at their own times, as means from each of N frames to the next; the gear
    is the last one."""
    edges = np.append(frames, 2.0 * frames[-1] - frames[-2])
    means = np.column_stack([means_between(row_times, column, edges) for column in np.hstack([actions, values]).T])
    last = np.clip(np.searchsorted(row_times, edges[1:], side="left") - 1, 0, len(row_times) - 1)
    means[:, 3], means[:, 7] = actions[last, 3], values[last, 3]
    return means[:, :4], means[:, 4:]


def _named_files(table: Table, column: str, images: Path, root: Path) -> list[Path]:
    if column not in table.texts:
        raise UserError(f"{table.file}: image_column is '{column}', which is not a column of names; columns of text: "
                        f"{', '.join(table.texts) or 'none'}")  # fmt: skip
    files = []
    for row, text in enumerate(table.texts[column]):
        file = images / PureWindowsPath(text).name
        if not text or not file.is_file():
            raise UserError(f"{table.file}, {table.row(row)}: the image '{text[-60:]}' is not in {images}")
        files.append(inside(file, root))
    return files


def _timed_files(files: list[Path], scale: float, table: Table, mapping: Mapping) -> FrameClock:
    names = [file.stem for file in files]
    wrong = next((file for file in files if not is_number(file.stem)), None)
    if wrong is not None:
        raise UserError(f"{wrong}: its name is not a number, but image_time_scale is set in the mapping file")
    if mapping.time is None:
        raise UserError(f"{table.file}: image_time_scale needs a time column, to which the names of the images refer")
    times = np.array([float(name) for name in names]) * scale - mapping.time.offset
    order = np.argsort(times, kind="stable")
    if (np.diff(times[order]) <= 0.0).any():
        raise UserError(f"{files[0].parent}: two images have the same time")
    return FrameClock([files[k] for k in order.tolist()], None, times[order], None)


def is_number(text: str) -> bool:
    """Whether a name is a number, such as `1700000000.25`."""
    return text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdecimal()
