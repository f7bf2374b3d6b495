"""The episodes of a LeRobot dataset and their rows.

v2  meta/episodes.jsonl                     episode_index and length; one Parquet file and one video per episode
v3  meta/episodes/chunk-*/file-*.parquet    data file, video file and time range; several episodes per file
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daydrive.data.sources.files import inside, read_text
from daydrive.data.sources.jsons import json_object
from daydrive.data.sources.lerobot.info import Feature, Info
from daydrive.errors import UserError

EPISODES_2, EPISODES_3 = "meta/episodes.jsonl", "meta/episodes"
NUMBER = "episode_index"
BATCH_ROWS, BATCH_ROWS_WITH_IMAGES = 4096, 16
"""Rows of a Parquet file that are in memory at once."""


@dataclass(frozen=True)
class Episode:
    """data: its Parquet file. video: the camera's video file, None if the images are in `data`. start: its time in the
    video, s."""

    number: int
    length: int
    data: Path
    video: Path | None
    start: float


def read_episodes(info: Info, camera: Feature) -> list[Episode]:
    """All episodes, sorted by number."""
    episodes = list(_version_2(info, camera) if info.version == 2 else _version_3(info, camera))
    if not episodes:
        raise UserError(f"{info.root} has no episodes")
    episodes.sort(key=lambda episode: episode.number)
    for one, other in itertools.pairwise(episodes):
        if one.number == other.number:
            raise UserError(f"{info.root}: the episode {one.number} occurs twice")
    return episodes


def _version_2(info: Info, camera: Feature) -> Iterator[Episode]:
    file = info.root / EPISODES_2
    for row, line in enumerate(read_text(file, info.root).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file}, row {row}"
        found = json_object(line, where)
        number, length = _count(found, NUMBER, where), _count(found, "length", where, 1)
        chunk = number // info.chunks_size
        fields: dict[str, int | str] = {NUMBER: number, "episode_chunk": chunk, "video_key": camera.name}
        video_file = info.path(info.video_path, **fields) if camera.dtype == "video" else None
        yield Episode(number, length, info.path(info.data_path, **fields), video_file, 0.0)


def _version_3(info: Info, camera: Feature) -> Iterator[Episode]:
    folder = inside(info.root / EPISODES_3, info.root)
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise UserError(f"{info.root} has no list of episodes ({EPISODES_3}/chunk-000/file-000.parquet)")
    key = f"videos/{camera.name}"
    in_video = [f"{key}/chunk_index", f"{key}/file_index", f"{key}/from_timestamp", f"{key}/to_timestamp"]
    wanted = [NUMBER, "length", "data/chunk_index", "data/file_index", *(in_video if camera.dtype == "video" else [])]
    for file in files:
        with reading(inside(file, info.root)):
            available = pq.read_schema(file).names
            missing = next((name for name in wanted if name not in available), None)
            if missing is not None:
                raise UserError(f"{file} has no column '{missing}'")
            rows = pq.read_table(file, columns=wanted).to_pylist()
        for row, found in enumerate(rows, start=1):
            where = f"{file}, row {row}"
            data = {"chunk_index": _count(found, wanted[2], where), "file_index": _count(found, wanted[3], where)}
            video_file, start = None, 0.0
            if camera.dtype == "video":
                location = {
                    "chunk_index": _count(found, in_video[0], where),
                    "file_index": _count(found, in_video[1], where),
                }
                video_file = info.path(info.video_path, video_key=camera.name, **location)
                start, end = found[in_video[2]], found[in_video[3]]
                if start is None or end is None or not 0.0 <= start < end:
                    raise UserError(f"{where}: invalid time range in its video, {start} to {end} s")
            length = _count(found, "length", where, 1)
            yield Episode(
                _count(found, NUMBER, where), length, info.path(info.data_path, **data), video_file, float(start)
            )


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


def _count(found: dict[str, Any], name: str, where: str, minimum: int = 0) -> int:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{where}: {name} is {value!r:.40}, expected an integer of at least {minimum}")
    return value
