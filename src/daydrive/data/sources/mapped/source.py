"""The source of tables with a mapping file: a drive for each folder with such a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options, action
from daydrive.data.sources.files import inside, subfolders
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.mapped.mapping_file import FILE, Mapping, read_mapping
from daydrive.data.sources.mapped.recording import read_recording
from daydrive.data.sources.mapping import NEUTRAL_ACTION, VALUES, interval_means, named_values
from daydrive.errors import UserError
from daydrive.types import ACTION_NAMES, Drive, Frame

DEPTH = 4
"""Levels of folders below the root that are searched."""

_SIGNS = ("positive to the right", "positive forwards", "positive slows down", "1 forwards, -1 backwards, 0 neutral")
_RANGES = ("[-1, 1]", "[0, 1]", "[0, 1]", "{-1, 0, 1}")


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a recording, resampled to `hz`."""

    folder: Path
    root: Path
    mapping: Mapping
    given_hz: float | None
    hz: float
    run: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        recording = read_recording(self.folder, self.root, self.mapping, self.given_hz)
        known = recording.known
        chosen = known[clock.resample(recording.times[known], self.hz)[self.run]]
        actions, values = interval_means(recording.actions, recording.values, recording.times, chosen)
        for k, image in enumerate(recording.images(chosen.tolist(), self.image_size)):
            more = {"recorded_time": float(recording.times[chosen[k]])}
            yield Frame(image, actions[k], k / self.hz, {**named_values(values[k]), **more})


class TableSource:
    name = "table"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the recordings' native rate, or 10 if unknown", 0.1),
        Option("seed", int, 0, "seed of the split by folder", minimum=0),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        converted = "as in mapping.yaml: scale * (column - offset), clipped; mean up to the next frame"
        described = {}
        for index, name in enumerate(ACTION_NAMES):
            text = "sign of that, the last one before the next frame" if name == "gear" else converted
            described[name] = action(
                "as recorded",
                _SIGNS[index],
                _RANGES[index],
                f"{text}; {NEUTRAL_ACTION[index]:g} where it is not mapped",
            )
        speed = "times the scale in mapping.yaml, m/s if that is right; mean up to the next frame"
        values = {**VALUES, "speed": speed, "recorded_time": "s, of the frame"}
        return {"actions": described, "values": values}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        folders = list(_folders(root, root, None, DEPTH))
        if not folders:
            raise UserError(f"{root} has no {FILE} with its table; `daydrive data import-table FILE` writes it")
        recordings = [read_recording(folder, root, mapping, options["hz"]) for folder, mapping in folders]
        rates = clock.shared_hz([(r.folder, r.times) for r in recordings], options["hz"])
        drives, counts = [], FrameCounts()
        for (folder, mapping), recording, hz in zip(folders, recordings, rates, strict=True):
            name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
            runs = clock.resample(recording.times[recording.known], hz)
            made_from = {**recording.columns.made_from(), "images": mapping.images}
            images, known = len(recording.times), len(recording.known)
            counts.recorded += images
            counts.leave_out(images - known, "for which the table has no rows", first=name)
            for run, chosen in counts.usable(runs, known, hz):
                frames = _Frames(folder, root, mapping, options["hz"], hz, run, image_size)
                label = name if len(runs) == 1 else f"{name}.{run}"
                drives.append(Drive(label, hz, frames, None, len(chosen), name, made_from))
        if not drives:
            raise UserError(
                f"{root} has no {clock.MIN_RUN_SECONDS:g} s of images without a gap and within the times of its table"
                f"{counts.why_none()}"
            )
        return CountedDrives(drives, counts)


def _folders(folder: Path, root: Path, mapping: Mapping | None, depth: int) -> Iterator[tuple[Path, Mapping]]:
    """The folders with a table that a mapping file, there or above it, describes."""
    file = folder / FILE
    if file.is_file():
        mapping = read_mapping(file, root)
        tables = folder / mapping.table
        if not tables.is_file() and not any(folder.rglob(mapping.table)):
            raise UserError(f"{file}: table: there is no file '{mapping.table}' beside it or below")
    if mapping is not None and (folder / mapping.table).is_file():
        yield folder, mapping
    for subfolder in subfolders(folder) if depth else ():
        yield from _folders(inside(subfolder, root), root, mapping, depth - 1)
