"""Writer for datasets with the features of L2D (yaak-ai/L2D, LeRobot 3.0); frame k of an episode shows `shade(k)`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.open_formats import SIZE, shade

CAMERAS = ("left_forward", "front_left", "right_forward", "left_backward", "rear", "right_backward", "map")
FRONT = "observation.images.front_left"
STATE = ("speed", "heading", "heading_error", "hp_loc_latitude", "hp_loc_longitude", "hp_loc_altitude",
         "acceleration_x", "acceleration_y")  # fmt: skip
TEXTS = ("lanes", "road", "surface", "max_speed", "precipitation", "conditions", "lighting")
HZ = 10
IN_FILE = 2
"""Episodes in a Parquet file and a video."""

needs_av1 = pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this build of PyAV cannot encode AV1")


def _feature(dtype: str, shape: Sequence[int], names: Any = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names}


FEATURES = {
    "observation.state.vehicle": _feature("float32", [8], {"axes": list(STATE)}),
    **{f"observation.state.{name}": _feature("string", [1]) for name in TEXTS},
    "observation.state.waypoints": _feature("float32", [10, 2], ["way", "points"]),
    "observation.state.timestamp": _feature("int64", [1], {"axes": ["unix_epoc_timestamp"]}),
    "task.policy": _feature("string", [1]),
    "task.instructions": _feature("string", [1]),
    "action.continuous": _feature(
        "float32", [3], {"axes": ["gas_pedal_normalized", "brake_pedal_normalized", "steering_angle_normalized"]}
    ),
    "action.discrete": _feature("int32", [2], {"axes": ["gear", "turn_signal"]}),
    "timestamp": _feature("float32", [1]),
    **{name: _feature("int64", [1]) for name in ("frame_index", "episode_index", "index", "task_index")},
    **{f"observation.images.{name}": _feature("video", [3, 1080, 1920], ["channel", "height", "width"])
       for name in CAMERAS},
}  # fmt: skip


def readings(length: int, episode: int) -> dict[str, np.ndarray]:
    """What an episode records, (length,) each: the car drives off, turns right, brakes and reverses at the end."""
    k = np.arange(length)
    return {
        "throttle": np.where(k < length // 2, 0.25, 0.0),
        "brake": np.where(k < length // 2, 0.0, 0.125),
        "steering": np.round(k / 64 - episode / 128, 6),
        "gear": np.where(k < 2, 0, np.where(k < length - 4, 3, 1)),
        "speed": 36.0 + k,
        "heading": (350.0 + 2.0 * k) % 360.0,
        "latitude": 51.925 + k / 1024,
        "longitude": 7.5 + k / 1024,
    }


def write_l2d(root: Path, lengths: Sequence[int], sessions: Sequence[str], codec: str = "libsvtav1") -> Path:
    """Writes a dataset with `IN_FILE` episodes per file, as L2D has; only the front camera has a video."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    info = {
        "codebase_version": "v3.0", "robot_type": "KIA Niro EV 2023", "total_episodes": len(lengths),
        "total_frames": sum(lengths), "total_tasks": 1, "chunks_size": 1000, "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200, "fps": HZ, "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4", "features": FEATURES,
    }  # fmt: skip
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    episodes = []
    for file in range(0, len(lengths), IN_FILE):
        numbers = range(file, min(file + IN_FILE, len(lengths)))
        shown, tables, start = [], [], 0
        for number in numbers:
            length = lengths[number]
            location = {f"videos/observation.images.{name}/{key}": value for name in CAMERAS for key, value in (
                ("chunk_index", 0), ("file_index", file // IN_FILE),
                ("from_timestamp", start / HZ), ("to_timestamp", (start + length) / HZ))}  # fmt: skip
            episodes.append({
                "episode_index": number, "tasks": ["Follow the waypoints"], "length": length,
                "session_id": sessions[number], "canonical_name": f"Niro098-HQ/{sessions[number]}",
                "data/chunk_index": 0, "data/file_index": file // IN_FILE, **location,
            })  # fmt: skip
            shown += [shade(k) for k in range(length)]
            tables.append(_rows(length, number))
            start += length
        data = root / f"data/chunk-000/file-{file // IN_FILE:03d}.parquet"
        data.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(tables), data, row_group_size=20)
        write_av1(root / f"videos/{FRONT}/chunk-000/file-{file // IN_FILE:03d}.mp4", shown, codec)
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    return root


def _rows(length: int, number: int) -> pa.Table:
    read, k = readings(length, number), np.arange(length)
    state = np.stack([read["speed"], read["heading"], 0.5 + 0 * k, read["latitude"], read["longitude"],
                      read["latitude"], 0 * k, 0 * k], axis=1)  # fmt: skip
    continuous = np.stack([read["throttle"], read["brake"], read["steering"]], axis=1)
    discrete = np.stack([read["gear"], 0 * k], axis=1)
    return pa.table({
        "observation.state.vehicle": pa.array(state.astype(np.float32).tolist(), pa.list_(pa.float32())),
        **{f"observation.state.{name}": ["NA"] * length for name in TEXTS},
        "observation.state.waypoints": [[[7.5, 51.9]] * 10] * length,
        "observation.state.timestamp": pa.array(1_736_422_478_009_503_700 + 100_000_000 * k, pa.int64()),
        "task.policy": ["EXPERT"] * length, "task.instructions": ["Drive straight"] * length,
        "action.continuous": pa.array(continuous.astype(np.float32).tolist(), pa.list_(pa.float32())),
        "action.discrete": pa.array(discrete.tolist(), pa.list_(pa.int32())),
        "timestamp": pa.array((k / HZ).astype(np.float32)),
        "frame_index": pa.array(k), "episode_index": pa.array(np.full(length, number)),
        "index": pa.array(k), "task_index": pa.array(0 * k),
    })  # fmt: skip


def write_av1(file: Path, images: Sequence[np.ndarray], codec: str = "libsvtav1") -> Path:
    """Writes an MP4 at `HZ`, each image enlarged fourfold, with a key frame for every second one, as LeRobot does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"preset": "12", "crf": "10", "svtav1-params": "lp=1"} if codec == "libsvtav1" else {"crf": "4"}
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=HZ, options=options)
        stream.height, stream.width, stream.pix_fmt = 4 * SIZE[0], 4 * SIZE[1], "yuv420p"
        stream.codec_context.gop_size = 2
        for image in images:
            enlarged = np.repeat(np.repeat(image, 4, axis=0), 4, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(enlarged, format="rgb24")))
        container.mux(stream.encode(None))
    return file
