"""The LeRobot source: one camera of a dataset, and a mapping of its columns to actions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daydrive.data import video
from daydrive.data.images import image_in, read_image
from daydrive.data.kinematics import clock
from daydrive.data.sources.base import Option, Options
from daydrive.data.sources.files import entries, inside, json_object, read_text
from daydrive.data.sources.frame_counts import CountedDrives, FrameCounts
from daydrive.data.sources.lerobot import l2d
from daydrive.data.sources.lerobot.info import POSITION, Component, Feature, Info
from daydrive.data.sources.mapping import (
    VALUES,
    ColumnMapping,
    describe_mapping,
    interval_means,
    mapping_options,
    named_values,
)
from daydrive.errors import UserError
from daydrive.types import ACTION_NAMES, Drive, Frame, Image

EPISODES_2, EPISODES_3 = "meta/episodes.jsonl", "meta/episodes"
NUMBER, SESSION = "episode_index", "session_id"
BATCH_ROWS, BATCH_ROWS_WITH_IMAGES = 4096, 16
"""Rows of a Parquet file that are in memory at once."""


@dataclass(frozen=True)
class Episode:
    """data: its Parquet file. video: the camera's video file, None if the images are in `data`. start: its time in the
    video, s. session: the recording that it is a part of, None if unknown."""

    number: int
    length: int
    data: Path
    video: Path | None
    start: float
    session: str | None = None


def read_episodes(info: Info, camera: Feature, wanted: Sequence[range] = ()) -> list[Episode]:
    """The episodes with the numbers in `wanted`, by default all, sorted by number."""
    listed = _version_2 if info.version == 2 else _version_3
    episodes = list(listed(info, camera, lambda number: not wanted or any(number in part for part in wanted)))
    if not episodes and not wanted:
        raise UserError(f"{info.root} has no episodes")
    for part in wanted:
        if not any(episode.number in part for episode in episodes):
            name = f"{part.start}" if len(part) == 1 else f"{part.start}:{part.stop}"
            raise UserError(f"--set episodes: {info.root} has no episode {name}")
    episodes.sort(key=lambda episode: episode.number)
    for one, other in itertools.pairwise(episodes):
        if one.number == other.number:
            raise UserError(f"{info.root}: the episode {one.number} occurs twice")
    return episodes


def episode_ranges(text: str | None) -> list[range]:
    """The episodes in the option `episodes`, such as `0:100` or `3,7,20:30`; empty for None."""
    ranges = []
    for part in (text or "").split(",") if text is not None else ():
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*:\s*(\d{1,9}))?\s*", part)
        first, end = (int(match[1]), int(match[2] or int(match[1]) + 1)) if match else (0, 0)
        if end <= first:
            raise UserError(
                f"--set episodes={text}: expected numbers or ranges without their end, such as 0:100 or 3,7,20:30"
            )
        ranges.append(range(first, end))
    return ranges


def _version_2(info: Info, camera: Feature, wanted: Callable[[int], bool]) -> Iterator[Episode]:
    file = info.root / EPISODES_2
    for row, line in enumerate(read_text(file, info.root).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}, row {row}"
        found = json_object(line, where)
        number, length = _count(found, NUMBER, where), _count(found, "length", where, 1)
        if not wanted(number):
            continue
        chunk = number // info.chunks_size
        fields: dict[str, int | str] = {NUMBER: number, "episode_chunk": chunk, "video_key": camera.name}
        video_file = info.path(info.video_path, **fields) if camera.dtype == "video" else None
        yield Episode(number, length, info.path(info.data_path, **fields), video_file, 0.0, _session(found))


def _version_3(info: Info, camera: Feature, asked: Callable[[int], bool]) -> Iterator[Episode]:
    folder = inside(info.root / EPISODES_3, info.root)
    files = [file for chunk in entries(folder, "*/") for file in entries(chunk, "*.parquet")]
    if not files:
        raise UserError(f"{info.root} has no list of episodes ({EPISODES_3}/chunk-000/file-000.parquet)")
    key = f"videos/{camera.name}"
    in_video = [f"{key}/chunk_index", f"{key}/file_index", f"{key}/from_timestamp", f"{key}/to_timestamp"]
    wanted = [NUMBER, "length", "data/chunk_index", "data/file_index", *(in_video if camera.dtype == "video" else [])]

    @cache
    def located(template: str, chunk: int, number: int) -> Path:
        return info.path(template, video_key=camera.name, chunk_index=chunk, file_index=number)

    for file in files:
        with reading(inside(file, info.root)):
            available = pq.read_schema(file).names
            missing = next((name for name in wanted if name not in available), None)
            if missing is not None:
                raise UserError(f"{file} has no column '{missing}'")
            session = [SESSION] if SESSION in available else []
            rows = pq.read_table(file, columns=[*wanted, *session]).to_pylist()
        for row, found in enumerate(rows, start=1):
            where = f"{file}, row {row}"
            number = _count(found, NUMBER, where)
            if not asked(number):
                continue
            video_file, start = None, 0.0
            if camera.dtype == "video":
                chunk, in_chunk = _count(found, in_video[0], where), _count(found, in_video[1], where)
                video_file = located(info.video_path, chunk, in_chunk)
                start, end = found[in_video[2]], found[in_video[3]]
                if start is None or end is None or not 0.0 <= start < end:
                    raise UserError(f"{where}: invalid time range in its video, {start} to {end} s")
            length = _count(found, "length", where, 1)
            data_file = located(info.data_path, _count(found, wanted[2], where), _count(found, wanted[3], where))
            yield Episode(number, length, data_file, video_file, float(start), _session(found))


def read_rows(
    episode: Episode, columns: Sequence[str], root: Path, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of an episode in batches: index of the first row in the episode, and the columns."""
    file = inside(episode.data, root)
    seen = 0
    with reading(file), pq.ParquetFile(file) as opened:
        for name in (NUMBER, *columns):
            if name not in opened.schema_arrow.names:
                raise UserError(f"{file} has no column '{name}'")
        groups = [k for k in range(opened.num_row_groups) if _may_contain(opened, k, episode.number)]
        for batch in opened.iter_batches(batch_rows, groups, columns=[NUMBER, *columns], use_threads=False):
            rows = batch.filter(pc.equal(batch.column(NUMBER), episode.number))
            if rows.num_rows:
                yield seen, rows
                seen += rows.num_rows
    if seen != episode.length:
        raise UserError(f"{file} has {seen} rows of episode {episode.number}, but its length is {episode.length}")


def numbers(
    column: pa.Array, feature: Feature, index: int, where: str, first: int, finite: bool = True
) -> npt.NDArray[np.float64]:
    """Element `index` of the vectors in a column, (N,). finite: whether missing or non-finite values raise a UserError.

    where, first: episode, and index of the first row in it, for error messages.
    """
    flat = column
    if feature.shape != (1,) or pa.types.is_nested(column.type):
        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)):
            raise UserError(f"{where}: {feature.name} is {column.type}, expected {feature.shape[0]} numbers")
        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
        if (lengths != feature.shape[0]).any():
            row = first + int(np.argmax(lengths != feature.shape[0]))
            raise UserError(f"{where}, frame {row}: {feature.name} does not have {feature.shape[0]} numbers")
        flat = column.flatten()
    try:
        values = pc.fill_null(pc.cast(flat, pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise UserError(f"{where}: {feature.name} contains {flat.type}, expected numbers") from error
    found = np.asarray(values, dtype=np.float64).reshape(len(column), -1)[:, index]
    if finite and not np.isfinite(found).all():
        row = first + int(np.argmin(np.isfinite(found)))
        raise UserError(f"{where}, frame {row}: {feature.name} is empty or not finite")
    return found


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Converts errors of reading a Parquet file to UserErrors that name the file."""
    try:
        yield
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise UserError(
            f"{file} cannot be read ({str(error).splitlines()[0][:160] or type(error).__name__})"
        ) from error


def _may_contain(opened: pq.ParquetFile, group: int, number: int) -> bool:
    """Whether the row group's statistics allow rows of this episode."""
    found = opened.metadata.row_group(group)
    column = next(c for k in range(found.num_columns) if (c := found.column(k)).path_in_schema == NUMBER)
    known = column.statistics
    return known is None or not known.has_min_max or bool(known.min <= number <= known.max)


def _session(found: dict[str, Any]) -> str | None:
    value = found.get(SESSION)
    return str(value) if value not in (None, "") else None


def _count(found: dict[str, Any], name: str, where: str, minimum: int = 0) -> int:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{where}: {name} is {value!r:.40}, expected an integer of at least {minimum}")
    return value


TIME = "timestamp"
TIME_TOLERANCE = 0.1
"""Maximum deviation of a timestamp from the fixed rate, periods; LeRobot itself allows 0.1 ms."""


@dataclass(frozen=True)
class _Frames:
    """The frames of an episode with native rate `fps`, resampled to `hz`."""

    root: Path
    episode: Episode
    camera: Feature
    mapping: ColumnMapping
    components: dict[str, tuple[Feature, Component]]
    fps: float
    hz: float
    image_size: tuple[int, int]

    def __call__(self) -> Iterator[Frame]:
        times, recorded = self._read_columns()
        positions = {name: recorded.pop(name) for name in POSITION if name in recorded}
        where = f"{self.episode.data}, episode {self.episode.number}"
        all_actions = self.mapping.actions(recorded, lambda row: f"{where}, frame {row}")
        (chosen,) = clock.resample(times, self.hz, 2.0 / min(self.hz, self.fps))
        actions, values = interval_means(all_actions, self.mapping.values(recorded), times, chosen)
        for k, image in enumerate(self._images(times, chosen)):
            more = {"episode": float(self.episode.number), "frame_index": float(chosen[k])}
            more |= {name: float(column[chosen[k]]) for name, column in positions.items()}
            yield Frame(image, actions[k], k / self.hz, {**named_values(values[k]), **more})

    def _read_columns(self) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.float64]]]:
        """Times (N,) s and the mapped columns, (N,) each."""
        where = f"{self.episode.data}, episode {self.episode.number}"
        timestamp = Feature(TIME, "float32", (1,), (), False)
        columns = list(dict.fromkeys([TIME, *(feature.name for feature, _ in self.components.values())]))
        batches: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in ("", *self.components)}
        for first, batch in read_rows(self.episode, columns, self.root):
            batches[""].append(numbers(batch.column(TIME), timestamp, 0, where, first))
            for name, (feature, component) in self.components.items():
                column = batch.column(feature.name)
                values = numbers(column, feature, component.element, where, first, finite=name in ACTION_NAMES)
                batches[name].append(values)
        recorded = {name: np.concatenate(arrays) for name, arrays in batches.items()}
        timestamps, times = recorded.pop(""), np.arange(self.episode.length) / self.fps
        off = np.flatnonzero(np.abs(timestamps - times) * self.fps > TIME_TOLERANCE)
        if len(off):
            row = int(off[0])
            raise UserError(
                f"{where}, frame {row}: its {TIME} is {timestamps[row]:.4f} s, expected {times[row]:.4f} at "
                f"{self.fps:g} frames per second"
            )
        return times, recorded

    def _images(self, times: npt.NDArray[np.float64], chosen: npt.NDArray[np.int64]) -> Iterator[Image | bytes]:
        if self.episode.video is not None:
            moments = self.episode.start + times[chosen]
            file = inside(self.episode.video, self.root)
            yield from video.frames_at(file, moments, 0.45 / self.fps, self.image_size)
            return
        wanted = chosen.tolist()
        for first, batch in read_rows(self.episode, [self.camera.name], self.root, BATCH_ROWS_WITH_IMAGES):
            column = batch.column(self.camera.name)
            while wanted and wanted[0] < first + batch.num_rows:
                row = wanted.pop(0)
                yield self._image(column[row - first].as_py(), row)

    def _image(self, cell: Any, row: int) -> Image | bytes:
        where = f"{self.episode.data}, episode {self.episode.number}, frame {row}"
        data, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if isinstance(data, bytes):
            return image_in(data, self.camera.name, where, self.image_size, shrink=True)
        if isinstance(name, str) and name:
            return read_image(inside(self.root / name, self.root), where, self.image_size, shrink=True)
        raise UserError(f"{where}: {self.camera.name} has no image")


class LeRobotSource:
    name = "lerobot"
    needs_root = True
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (
        Option("hz", float, None, "frames per second; default: the dataset's fps", 0.1),
        Option(
            "camera", str, None, "feature of dtype video or image; default: the first one called front…, or the first"
        ),
        Option("episodes", str, None, "only these episodes, such as 0:100 or 3,7,20:30; default: all"),
        Option("split", str, None, "official or by-drive; default: official if the dataset has several splits"),
        Option("seed", int, 0, "seed of the split by episode", minimum=0),
        *mapping_options("element of a column, such as action.0 or action.steering,"),
    )

    def describe(self, options: Options) -> dict[str, Any]:
        averaged = "mean up to the next frame, the last gear; a row's reading holds until the next one"
        return {
            "actions": describe_mapping(options, averaged),
            "values": {
                **VALUES,
                "episode": "episode_index of the dataset",
                "frame_index": "number of the row in its episode, from 0",
                "heading": "as recorded, at the frame; L2D: degrees clockwise from north",
                "latitude": "degrees, at the frame",
                "longitude": "degrees, at the frame",
            },
            "decoder": video.hardware() or "software",
        }

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        if options["split"] not in (None, "official", "by-drive"):
            raise UserError(f"--split {options['split']}: must be official or by-drive")
        info = Info.read(root)
        clock.check_rate(info.file, info.fps)
        hz = float(options["hz"] or info.fps)
        if hz > info.fps * clock.SAME_RATE:
            raise UserError(f"{info.file} has {info.fps:g} frames per second, too few for --hz {hz:g}")
        camera = info.camera(options["camera"])
        guessed = info.guessed()
        mapping = l2d.with_units(ColumnMapping.from_options(options, list(info.components), guessed, str(info.file)))
        columns = {**{name: guessed[name] for name in POSITION if name in guessed}, **mapping.columns}
        components = {
            quantity: (info.features[info.components[name].feature], info.components[name])
            for quantity, name in columns.items()
        }
        episodes = read_episodes(info, camera, episode_ranges(options["episodes"]))
        splits: Sequence[str | None] | None = None
        if options["split"] != "by-drive":
            splits = info.split_of([episode.number for episode in episodes])
        if splits is None and options["split"] == "official":
            raise UserError(f"--split official: {info.file} has no train, val and test splits that cover all episodes")
        made_from = {**mapping.made_from(), **l2d.made_from(mapping), "images": camera.name}
        drives, counts = [], FrameCounts()
        for episode, split in zip(episodes, splits or [None] * len(episodes), strict=True):
            length = int((episode.length - 1) / info.fps * hz + 1e-6) + 1
            counts.recorded += episode.length
            if length < 2:
                counts.leave_out(episode.length, "in episodes of less than two frames")
                continue
            counts.leave_out(episode.length - length, f"not needed at {hz:g} Hz", places=episode.length - length)
            frames = _Frames(root, episode, camera, mapping, components, info.fps, hz, image_size)
            drives.append(Drive(f"episode_{episode.number:06d}", hz, frames, split, length, episode.session, made_from))
        if not drives:
            raise UserError(f"{root} has no episode with two frames at {hz:g} Hz")
        if options["camera"] is None and len(info.cameras) > 1:
            print(f"Using the camera {camera.name}; available for --camera: {', '.join(info.cameras)}.")
        return CountedDrives(drives, counts)
