"""Arbitrary videos, optionally with the actions of each in a CSV file beside it.

    <root>/**/<name>.mp4|mkv|avi|mov    one drive each; videos of one folder are in one split
    <root>/**/<name>.csv                or the only CSV of a folder with one video: a header, then numbers

With a column `time` (since the first frame) the CSV may have any rate; otherwise it has one row per frame. Other
column names, units and signs are mapped with `--set steering=wheel_deg --set steering_scale=-0.002`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from daydrive.data import video
from daydrive.data.kinematics import clock
from daydrive.data.kinematics.signals import covered, means_between
from daydrive.data.sources.base import GAP, Option, Options
from daydrive.data.sources.files import entries, inside, subfolders
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.mapping import (
    NEUTRAL_ACTION,
    UNKNOWN,
    VALUES,
    ColumnMapping,
    describe_mapping,
    interval_means,
    mapping_options,
    named_values,
)
from daydrive.data.sources.table import columns_of, read_columns, read_header
from daydrive.data.sources.timestamps import RECORDED_HZ, SECONDS, TIME_SCALE, TimeCells, unit_notes
from daydrive.errors import UserError, did_you_mean
from daydrive.types import ACTION_NAMES, Drive, Frame

Array = npt.NDArray[np.float64]

DEPTH = 4
"""Levels of folders below the root that are searched."""

TOLERANCE = 0.1
"""Maximum distance of a frame to the nearest CSV row, s; or 1.5 times the CSV's interval if that is larger."""


@dataclass(frozen=True)
class _Signals:
    """The rows of a CSV. times: (M,) s since the first frame, written in `unit`; None if there is one row per frame."""

    times: Array | None
    actions: Array
    values: Array
    unit: str

    @classmethod
    def read(cls, table: Path, options: Options, seconds: float) -> tuple[_Signals, ColumnMapping]:
        header = read_header(table)
        mapping = ColumnMapping.from_options(options, header, columns_of(header), str(table))
        time_column = _time_column(table, header, options)
        moments = TimeCells(time_column) if time_column else None
        read = read_columns(table, list(dict.fromkeys(mapping.columns.values())), moments)
        recorded = {name: read[column] for name, column in mapping.columns.items()}
        times: Array | None = None
        unit = SECONDS
        if moments:
            written = moments.times(table, options["time_scale"], seconds)
            times, unit = written.seconds - float(options["time_offset"]), written.unit
        actions = mapping.actions(recorded, lambda row: f"{table}, row {row + 2}")
        return cls(times, actions, mapping.values(recorded), unit), mapping

    def known(self, frames: Array) -> npt.NDArray[np.int64]:
        """Indices of the frames, given at (N,) s, for which the CSV has values."""
        if self.times is None:
            return np.arange(len(frames))
        tolerance = max(TOLERANCE, 1.5 * float(np.median(np.diff(self.times))))
        return np.flatnonzero(covered(self.times, frames, tolerance))

    def sample(self, frames: Array, chosen: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], Array]:
        """Actions (K, 4) and the columns of `VALUES` (K, 5), averaged from each chosen frame to the next."""
        if self.times is None:
            return interval_means(self.actions, self.values, frames, chosen)
        moments = frames[chosen]
        edges = np.append(moments, moments[-1] + (moments[-1] - moments[0]) / (len(moments) - 1))
        columns = np.hstack([self.actions, self.values]).T
        means = np.column_stack([means_between(self.times, column, edges) for column in columns])
        last = np.clip(np.searchsorted(self.times, edges[1:], side="left") - 1, 0, len(self.times) - 1)
        means[:, 3], means[:, 7] = self.actions[last, 3], self.values[last, 3]
        return means[:, :4].astype(np.float32), means[:, 4:]


@dataclass(frozen=True)
class _Recording:
    video: Path
    table: Path | None

    def clock(self, times: Array, options: Options) -> Array:
        """Times (N,) of the frames since the first one, s, from those in the file or at the stated rate."""
        stated = options["recorded_hz"]
        return np.arange(len(times)) / stated if stated else times - times[0]

    def signals(self, options: Options, seconds: float) -> _Signals | None:
        return _Signals.read(self.table, options, seconds)[0] if self.table else None

    def runs(self, times: Array, signals: _Signals | None, hz: float, gap: float | None) -> list[npt.NDArray[np.int64]]:
        """Indices of the frames with signals of each run at `hz`. gap: as in `clock.resample`."""
        known = np.arange(len(times)) if signals is None else signals.known(times)
        return [known[run] for run in clock.resample(times[known], hz, gap)] if len(known) else []


@dataclass(frozen=True)
class _Frames:
    """The frames of run number `run` of a recording, resampled to `hz`. times: (N,) s of all frames in the file."""

    recording: _Recording
    options: Options
    times: Array
    hz: float
    run: int
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        times = self.recording.clock(self.times, self.options)
        signals = self.recording.signals(self.options, float(times[-1]))
        chosen = self.recording.runs(times, signals, self.hz, self.options["gap"])[self.run]
        actions = np.tile(np.array(NEUTRAL_ACTION, dtype=np.float32), (len(chosen), 1))
        values = np.full((len(chosen), len(VALUES)), np.nan)
        if signals is not None:
            actions, values = signals.sample(times, chosen)
        tolerance = 0.45 * float(np.diff(self.times).min())
        images = video.frames_at(self.recording.video, self.times[chosen], tolerance, self.image_size)
        for k, image in enumerate(images):
            values_of_frame = {**named_values(values[k]), "video_time": float(times[chosen[k]])}
            yield Frame(image, actions[k], k / self.hz, values_of_frame)


class VideoSource:
    name = "video"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the videos' native rate", 0.1),
        Option("seed", int, 0, "seed of the split by folder", minimum=0),
        GAP,
        Option("time", str, None, "time column of the CSV; default: 'time' if it exists"),
        TIME_SCALE,
        RECORDED_HZ,
        Option("time_offset", float, 0.0, "time of the first frame on the CSV's clock, s"),
        *mapping_options("column"),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        averaged = "mean up to the next frame, straight from row to row of the CSV's times, the last gear"
        return {
            "actions": describe_mapping(options, averaged),
            "values": {**VALUES, "video_time": "s from the first frame of the video"},
            "decoder": video.hardware() or "software",
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        recordings = _recordings(root)
        scans = [video.frame_times(recording.video) for recording in recordings]
        times = [scan.seconds for scan in scans]
        clocks = [(r.video, r.clock(t, options)) for r, t in zip(recordings, times, strict=True)]
        rates = clock.shared_hz(clocks, options["hz"], options["recorded_hz"])
        names = _names([recording.video for recording in recordings], root)
        drives: list[Drive] = []
        counts = FrameCounts()
        units: list[tuple[Path, str]] = []
        for recording, scan in zip(recordings, scans, strict=True):
            counts.recorded += len(scan.seconds) + scan.undecodable
            counts.leave_out(scan.undecodable, "before the first key frame", first=str(recording.video))
        for recording, file_times, (_, frame_times), hz, name in zip(
            recordings, times, clocks, rates, names, strict=True
        ):
            signals, made_from = None, dict.fromkeys(ACTION_NAMES, UNKNOWN)
            if recording.table is not None:
                signals, mapping = _Signals.read(recording.table, options, float(frame_times[-1]))
                units.append((recording.table, signals.unit))
                made_from = mapping.made_from()
                _check_times(recording, signals, frame_times, options)
            known = len(frame_times) if signals is None else len(signals.known(frame_times))
            counts.leave_out(len(frame_times) - known, "outside the times of the CSV", first=str(recording.table))
            runs = counts.usable(recording.runs(frame_times, signals, hz, options["gap"]), known, hz, options["gap"])
            folder = recording.video.parent
            group = folder.relative_to(root).as_posix() if folder != root else None
            for number, (run, chosen) in enumerate(runs):
                label = name if len(runs) == 1 else f"{name}.{number}"
                frames = _Frames(recording, options, file_times, hz, run, image_size)
                drives.append(Drive(label, hz, frames, None, len(chosen), group or name, made_from))
        if not drives:
            raise UserError(
                f"{root} has no {clock.MIN_RUN_SECONDS:g} s of video without a gap and within the times of its CSV"
                f"{counts.why_none()}"
            )
        for note in unit_notes(units):
            print(note)
        without = sum(recording.table is None for recording in recordings)
        if without:
            print(f"{without} of {len(recordings)} videos have no CSV: unknown actions are stored as {NEUTRAL_ACTION}.")
        return CountedDrives(drives, counts)


def _recordings(root: Path) -> list[_Recording]:
    found = list(_find(root, root, DEPTH))
    if not found:
        raise UserError(f"{root} has no videos ({', '.join(video.SUFFIXES)})")
    return found


def _find(folder: Path, root: Path, depth: int) -> Iterator[_Recording]:
    files = [path for path in entries(folder) if not path.is_dir()]
    videos = [inside(f, root) for f in files if f.suffix.lower() in video.SUFFIXES]
    tables = {f.stem: inside(f, root) for f in files if f.suffix.lower() == ".csv"}
    stems = {file.stem for file in videos}
    unmatched = [table for stem, table in tables.items() if stem not in stems]
    if unmatched and videos and not (len(videos) == 1 and len(unmatched) == 1 and not stems & set(tables)):
        suggestion = did_you_mean(unmatched[0].stem, stems)
        raise UserError(f"{unmatched[0]} does not match a video beside it; give it the name of its video{suggestion}")
    for file in videos:
        yield _Recording(file, tables.get(file.stem, unmatched[0] if unmatched else None))
    if depth:
        for subfolder in subfolders(folder):
            yield from _find(inside(subfolder, root), root, depth - 1)


def _names(videos: list[Path], root: Path) -> list[str]:
    """Paths relative to the root, without the suffix if they are unique without it."""
    short = [file.relative_to(root).with_suffix("").as_posix() for file in videos]
    return [name if short.count(name) == 1 else file.relative_to(root).as_posix()
            for name, file in zip(short, videos, strict=True)]  # fmt: skip


def _time_column(table: Path, header: list[str], options: Options) -> str | None:
    given = options["time"]
    if given is not None and given not in header:
        raise UserError(f"{table} has no column '{given}' for --set time={given}{did_you_mean(given, header)}")
    return given or columns_of(header).get("time")


def _check_times(recording: _Recording, signals: _Signals, frames: Array, options: Options) -> None:
    name = recording.video.name
    if signals.times is None:
        if len(signals.actions) != len(frames):
            raise UserError(
                f"{recording.table} has {len(signals.actions)} rows for the {len(frames)} frames of {name}; "
                "without a time column (--set time=NAME) it needs one row per frame"
            )
    elif signals.times[0] > frames[-1] or signals.times[-1] < frames[0]:
        offset = signals.times[0] + float(options["time_offset"])
        raise UserError(
            f"{recording.table} covers {signals.times[0]:.9g} to {signals.times[-1]:.9g} s, but {name} covers 0 to "
            f"{frames[-1]:.9g} s; set the time of the first frame on the CSV's clock, such as "
            f"--set time_offset={offset:.12g}"
        )
