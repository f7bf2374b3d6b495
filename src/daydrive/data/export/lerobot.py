"""Export to the LeRobot dataset format 3.0, which LeRobot 0.4 and later read.

    meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet
    meta/daydrive.json                                    meaning of the actions and how to undo their conversion
    data/chunk-000/file-000.parquet                       one row group per episode
    videos/observation.images.front/chunk-000/file-000.mp4    H.264, every second frame is a key frame

Each drive is an episode, in the order train, val, test. The column `action` is bit-identical to that of the store.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from daydrive.data.export.video import VideoFiles
from daydrive.data.store.store import SPLITS, DriveInfo, Store
from daydrive.errors import UserError
from daydrive.files import atomic_replace, created_parents, write_json
from daydrive.progress import DriveProgress
from daydrive.types import ACTION_NAMES
from daydrive.version import __version__

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stats:
    """min, max, mean, std: arrays of the shape of the feature, (3, 1, 1) for images. count: number of rows."""

    min: Array
    max: Array
    mean: Array
    std: Array
    count: int

    def as_json(self) -> dict[str, Any]:
        """The statistics as lists, for JSON and Parquet."""
        arrays = {name: np.nan_to_num(getattr(self, name)).tolist() for name in ("min", "max", "mean", "std")}
        return {**arrays, "count": [self.count]}


def column_stats(values: npt.ArrayLike) -> Stats:
    """Statistics over the rows of (N, D), ignoring NaN; 0 for columns without values."""
    rows = np.asarray(values, dtype=np.float64)
    empty = np.isnan(rows).all(axis=0)
    known = np.where(empty, 0.0, rows)
    return Stats(
        np.nanmin(known, axis=0),
        np.nanmax(known, axis=0),
        np.nanmean(known, axis=0),
        np.nanstd(known, axis=0),
        len(rows),
    )


class ImageStats:
    """Accumulates statistics of images, uint8 (H, W, 3), per colour channel, in [0, 1]."""

    def __init__(self) -> None:
        self.per_image: list[tuple[Array, Array, Array, Array]] = []

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        pixels = image.reshape(-1, 3) / 255.0
        self.per_image.append((pixels.min(axis=0), pixels.max(axis=0), pixels.mean(axis=0), (pixels**2).mean(axis=0)))

    def stats(self) -> Stats:
        minima, maxima, means, squares = (np.stack(column) for column in zip(*self.per_image, strict=True))
        mean = means.mean(axis=0)
        std = np.sqrt(np.maximum(squares.mean(axis=0) - mean**2, 0.0))
        low, high, mean, std = (
            values.reshape(3, 1, 1) for values in (minima.min(axis=0), maxima.max(axis=0), mean, std)
        )
        return Stats(low, high, mean, std, len(self.per_image))


def aggregate(stats: Sequence[Stats]) -> Stats:
    """Combine the statistics of several sets of rows."""
    counts = np.array([each.count for each in stats], dtype=np.float64)
    weights = (counts / counts.sum()).reshape(-1, *[1] * stats[0].mean.ndim)
    means = np.stack([each.mean for each in stats])
    mean = (weights * means).sum(axis=0)
    variance = (weights * (np.stack([each.std for each in stats]) ** 2 + (means - mean) ** 2)).sum(axis=0)
    return Stats(
        np.min([each.min for each in stats], axis=0),
        np.max([each.max for each in stats], axis=0),
        mean,
        np.sqrt(variance),
        int(counts.sum()),
    )


def sampled_frames(frames: int) -> set[int]:
    """Indices of the frames used for image statistics, evenly spaced; their number is LeRobot's, at least 100 if
    available."""
    count = min(frames, max(100, min(round(frames**0.75), 10_000)))
    return set(np.linspace(0, frames - 1, count).round().astype(int).tolist())


CAMERA = "observation.images.front"
STATE = "observation.state"
TASK = "drive"

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILES_IN_CHUNK, DATA_MB, VIDEO_MB = 1000, 100, 200
"""Limits of LeRobot."""

CHUNK = 256
"""Number of frames read at a time."""

_COUNTERS = ("frame_index", "episode_index", "index", "task_index")


def export_lerobot(path: Path | str, output: Path, split: str | None = None) -> Path:
    """Export the drives of the store at `path`, or those of one split, to the folder `output`, and return `output`.

    The folder is written atomically. Raises UserError if `output` is not empty, the image height or width is odd, or
    writing fails.
    """
    import av

    store = Store.open(path)
    drives = [drive for name in SPLITS if split in (None, name) for drive in store.split(name)]
    if split is not None and not drives:
        store.split(split)
        raise UserError(f"the store {path} has no drives for {split}")
    height, width = store.image_size
    if height % 2 or width % 2:
        raise UserError(
            f"the store {path} has images of {height}x{width}, and H.264 supports only even sizes; prepare a "
            f"store with --image-size {height + height % 2} {width + width % 2}"
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"the output {output} already exists; choose an empty or new folder")
    try:
        with created_parents(output), atomic_replace(output) as folder:
            folder.mkdir()
            _write(store, drives, folder)
    except (OSError, av.FFmpegError) as error:
        raise UserError(f"the output {output} cannot be written ({error.strerror or error})") from error
    return output


def _write(store: Store, drives: Sequence[DriveInfo], folder: Path) -> None:
    lengths = [drive.frames for drive in drives]
    fps = Fraction(store.hz).limit_denominator(1000)
    data, episodes = _DataFiles(folder, tuple(store.metadata["values"])), []
    stats: list[dict[str, Stats]] = []
    with VideoFiles(folder, CAMERA, fps, store.image_size) as videos, DriveProgress(lengths, lengths) as progress:
        try:
            for index, drive in enumerate(drives):
                sampled, image_stats = sampled_frames(drive.frames), ImageStats()
                entry = videos.start_episode(drive.frames)
                for first in range(0, drive.frames, CHUNK):
                    rows = drive.start + np.arange(first, min(first + CHUNK, drive.frames))
                    for k, jpeg in enumerate(store.read(rows)[0]):
                        image = _image(jpeg, store, drive, first + k)
                        videos.add(image)
                        if first + k in sampled:
                            image_stats.add(image)
                    progress.frames_done(len(rows))
                episode_stats, position = data.write_episode(store, drive, index, float(fps))
                episode_stats[CAMERA] = image_stats.stats()
                stats.append(episode_stats)
                flat = {
                    f"stats/{name}/{key}": value
                    for name, feature in episode_stats.items()
                    for key, value in feature.as_json().items()
                }
                episodes.append({
                    "episode_index": index, "tasks": [TASK], "length": drive.frames, **position, **entry, **flat,
                    "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
                })  # fmt: skip
                progress.drive_done()
        finally:
            data.close()
    _write_meta(store, drives, folder, episodes, stats, fps)


def _image(jpeg: bytes, store: Store, drive: DriveInfo, frame: int) -> npt.NDArray[np.uint8]:
    try:
        return np.asarray(simplejpeg.decode_jpeg(jpeg, "RGB"), dtype=np.uint8)
    except ValueError as error:
        raise UserError(
            f"the store {store.path} is damaged: the image of drive '{drive.name}', frame {frame}, cannot be decoded"
        ) from error


@dataclass
class _DataFiles:
    """Writes rows to Parquet files and starts a new file at the next episode once one exceeds `DATA_MB`."""

    folder: Path
    values: tuple[str, ...]
    file: int = 0
    rows: int = 0
    writer: pq.ParquetWriter | None = field(default=None)

    @property
    def schema(self) -> pa.Schema:
        state = [pa.field(STATE, pa.list_(pa.float32(), len(self.values)))] if self.values else []
        counters = [pa.field(name, pa.int64()) for name in _COUNTERS]
        action = pa.field("action", pa.list_(pa.float32(), len(ACTION_NAMES)))
        return pa.schema([action, *state, pa.field("timestamp", pa.float32()), *counters])

    def write_episode(
        self, store: Store, drive: DriveInfo, index: int, fps: float
    ) -> tuple[dict[str, Stats], dict[str, int]]:
        """Write the rows of a drive; return their statistics and their position in the dataset."""
        rows, count = drive.start + np.arange(drive.frames), np.arange(drive.frames)
        columns: dict[str, npt.NDArray[Any]] = {"action": store.read_actions(rows)}
        if self.values:
            values = store.read_values(rows, self.values)
            columns[STATE] = np.column_stack([values[name] for name in self.values]).astype(np.float32)
        columns["timestamp"] = (count / fps).astype(np.float32)
        columns["frame_index"], columns["episode_index"] = count, np.full(drive.frames, index)
        columns["index"], columns["task_index"] = self.rows + count, np.zeros(drive.frames, dtype=np.int64)
        entry = {**self._current_file(), "dataset_from_index": self.rows, "dataset_to_index": self.rows + drive.frames}
        assert self.writer is not None
        self.writer.write_table(pa.table([_arrow(columns[name]) for name in self.schema.names], schema=self.schema))
        self.rows += drive.frames
        return {name: column_stats(column.reshape(drive.frames, -1)) for name, column in columns.items()}, entry

    def _current_file(self) -> dict[str, int]:
        chunk, file = divmod(self.file, FILES_IN_CHUNK)
        path = self.folder / DATA_PATH.format(chunk_index=chunk, file_index=file)
        if self.writer is not None and os.path.getsize(path) >= DATA_MB << 20:
            self.close()
            self.file += 1
            return self._current_file()
        if self.writer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.writer = pq.ParquetWriter(path, self.schema, compression="snappy")
        return {"data/chunk_index": chunk, "data/file_index": file}

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _arrow(column: npt.NDArray[Any]) -> pa.Array:
    flat = pa.array(column.reshape(-1))
    return flat if column.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, column.shape[1])


def _write_meta(
    store: Store,
    drives: Sequence[DriveInfo],
    folder: Path,
    episodes: list[dict[str, Any]],
    stats: Sequence[dict[str, Stats]],
    fps: Fraction,
) -> None:
    rate = int(fps) if fps.denominator == 1 else float(fps)
    values = list(store.metadata["values"])
    height, width = store.image_size
    video = {
        "video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False, "video.fps": rate, "video.channels": 3, "has_audio": False,
    }  # fmt: skip
    counter = {"dtype": "int64", "shape": [1], "names": None}
    features = {
        CAMERA: {
            "dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": video
        },
        "action": {"dtype": "float32", "shape": [len(ACTION_NAMES)], "names": list(ACTION_NAMES)},
        **({STATE: {"dtype": "float32", "shape": [len(values)], "names": values}} if values else {}),
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **dict.fromkeys(_COUNTERS, counter),
    }  # fmt: skip
    info = {
        "codebase_version": "v3.0",
        "robot_type": "car",
        "total_episodes": len(drives),
        "total_frames": sum(drive.frames for drive in drives),
        "total_tasks": 1,
        "chunks_size": FILES_IN_CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": rate,
        "splits": _ranges([drive.split for drive in drives]),
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features,
    }
    meaning = {
        key: store.metadata[key] for key in ("source", "fingerprint", "actions", "values") if key in store.metadata
    }
    meta = folder / "meta"
    path = folder / EPISODES_PATH.format(chunk_index=0, file_index=0)
    path.parent.mkdir(parents=True)
    write_json(meta / "info.json", info)
    write_json(
        meta / "stats.json", {name: aggregate([episode[name] for episode in stats]).as_json() for name in stats[0]}
    )
    write_json(
        meta / "daydrive.json",
        {**meaning, "daydrive": __version__, "drives": [drive.name for drive in drives]},
    )
    pq.write_table(_tasks(), meta / "tasks.parquet")
    pq.write_table(pa.Table.from_pylist(episodes), path)


def _ranges(splits: Sequence[str]) -> dict[str, str]:
    """The range of episodes of each split; the episodes of a split are contiguous."""
    return {name: f"{splits.index(name)}:{splits.index(name) + splits.count(name)}" for name in dict.fromkeys(splits)}


def _tasks() -> pa.Table:
    """The table with the single task, with the pandas index that LeRobot expects."""
    index = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {**index, "name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": [number, index], "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": pa.array([TASK], pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
