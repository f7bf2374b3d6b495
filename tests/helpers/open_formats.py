"""Writers for Donkeycar tubs, videos and LeRobot datasets; frame k shows `shade(k)`."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from daydrive.data.store.store import Store
from daydrive.evaluation import EvaluateConfig
from daydrive.evaluation.pipeline import evaluate
from helpers.runs import run_training

SIZE = (24, 32)


def shade(k: int) -> np.ndarray:
    """A gray image that encodes k, up to 50, and survives video compression."""
    return np.full((*SIZE, 3), 5 * (k % 51), dtype=np.uint8)


def seen(store: Store, rows: Sequence[int] | np.ndarray | None = None) -> list[int]:
    """The k of the images in these rows, by default in all."""
    jpegs = store.read(np.arange(store.rows) if rows is None else rows)[0]
    return [round(float(np.median(simplejpeg.decode_jpeg(jpeg)[..., 0])) / 5) for jpeg in jpegs]


def train_and_evaluate(store: Path, config: Path, folder: Path) -> None:
    """Trains for three steps and evaluates on the test drives."""
    steps = ("training.max_steps=3", "training.gradient_accumulation=1")
    assert run_training(config, store, folder / "run", *steps) == 0
    assert evaluate(folder / "run", store, folder / "evaluation", EvaluateConfig(split="test", horizon=3, clips=4))


def write_video(file: Path, milliseconds: Sequence[float], images: Sequence[np.ndarray] | None = None) -> Path:
    """Writes a video with frames at these times; at 10 Hz for AVI, which has no timestamps."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = images or [shade(k) for k in range(len(milliseconds))]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "4"})
        stream.height, stream.width, stream.pix_fmt = *shown[0].shape[:2], "yuv420p"
        timed = file.suffix != ".avi"
        if timed:
            stream.codec_context.time_base = Fraction(1, 1000)
        for time, image in zip(milliseconds, shown, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if timed:
                frame.pts, frame.time_base = round(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def held_upright(file: Path) -> None:
    """Sets the rotation of an MP4 to 90 degrees clockwise, as phones held upright do."""
    data = file.read_bytes()
    start = data.index(b"tkhd") + 44
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    file.write_bytes(data[:start] + matrix + data[start + 36 :])


def write_csv(file: Path, header: str, rows: Sequence[Sequence[float]]) -> Path:
    file.write_text("\n".join([header, *(",".join(f"{cell:.12g}" for cell in row) for row in rows)]) + "\n")
    return file


def record(k: int, **more: object) -> dict[str, Any]:
    """Record k of a tub: the car steers from left to right, accelerates, then brakes."""
    reading = {"user/angle": round(-0.9 + 0.03 * k, 4), "user/throttle": round(0.8 - 0.03 * k, 4), "user/mode": "user"}
    return {**reading, **more}


def write_tub(
    tub: Path, sessions: Sequence[int], deleted: Sequence[int] = (), period: int = 50, in_catalog: int = 25
) -> Path:
    """Writes a version 2 tub. sessions: number of records in each session. deleted: indices of deleted records."""
    (tub / "images").mkdir(parents=True)
    lines, number = [], 0
    for session, count in enumerate(sessions):
        for _ in range(count):
            name = f"{number}_cam_image_array_.jpg"
            (tub / "images" / name).write_bytes(simplejpeg.encode_jpeg(shade(number), 95))
            stamp = {"_timestamp_ms": 1_600_000_000_000 + 100_000 * session + period * number, "_index": number}
            fields = {**stamp, "_session_id": f"20-09-13_{session}", "cam/image_array": name}
            lines.append(json.dumps(record(number, **fields)))
            number += 1
    paths = []
    for first in range(0, number, in_catalog):
        paths.append(f"catalog_{first // in_catalog}.catalog")
        (tub / paths[-1]).write_text("\r\n".join(lines[first : first + in_catalog]) + "\r\n")
    last = {"paths": paths, "current_index": number, "max_len": in_catalog, "deleted_indexes": list(deleted)}
    inputs, types = ["cam/image_array", "user/angle", "user/throttle"], ["image_array", "float", "float"]
    manifest = (inputs, types, {}, {"created_at": 1.6e9}, last)
    (tub / "manifest.json").write_text("\r\n".join(map(json.dumps, manifest)) + "\r\n")
    return tub


def write_old_tub(tub: Path, numbers: Sequence[int], times: str = "milliseconds") -> Path:
    """Writes a version 1 tub with records of these numbers at 20 Hz. times: the key that holds the time, or ''."""
    tub.mkdir(parents=True)
    (tub / "meta.json").write_text(json.dumps({"inputs": ["cam/image_array"], "types": ["image_array"], "start": 1e9}))
    for k in numbers:
        name = f"{k}_cam-image_array_.jpg"
        (tub / name).write_bytes(simplejpeg.encode_jpeg(shade(k), 95))
        time = datetime(2019, 3, 6, 21, 4, 48) + timedelta(milliseconds=50 * k)
        when = {"milliseconds": 50 * k, "timestamp": f"{time:%Y-%m-%d %H:%M:%S.%f}"}
        time_field = {times: when[times]} if times else {}
        (tub / f"record_{k}.json").write_text(
            json.dumps(record(k, **time_field, **{"cam/image_array": f"C:\\d\\{name}"}))
        )
    return tub


FEATURES = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    **{name: {"dtype": "int64", "shape": [1], "names": None} for name in ("frame_index", "episode_index", "index")},
}


def write_lerobot(
    root: Path,
    lengths: Sequence[int],
    names: Any = ("steering", "throttle", "brake"),
    image_dtype: str = "video",
    fps: int = 10,
    **info: object,
) -> Path:
    """Writes a version 2.1 dataset with one Parquet file and one video per episode; action of frame k: k / 100, 0.5, 0.

    image_dtype: 'video', or 'image' for images in the Parquet files.
    """
    cameras = ("observation.images.front", "observation.images.wrist")
    width = len(names) if isinstance(names, list | tuple) else 3
    shape = {"dtype": image_dtype, "shape": [*SIZE, 3], "names": ["height", "width", "channels"]}
    features = {
        **dict.fromkeys(cameras, shape),
        "action": {"dtype": "float32", "shape": [width], "names": names},
        "speed": {"dtype": "float64", "shape": [1], "names": None},
        **FEATURES,
    }
    (root / "meta").mkdir(parents=True)
    metadata = {
        "codebase_version": "v2.1", "fps": fps, "chunks_size": 2, "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features, **info,
    }  # fmt: skip
    (root / "meta/info.json").write_text(json.dumps(metadata))
    (root / "meta/tasks.jsonl").write_text('{"task_index": 0, "task": "drive"}\n')
    rows = [{"episode_index": k, "tasks": ["drive"], "length": length} for k, length in enumerate(lengths)]
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for episode, length in enumerate(lengths):
        count = np.arange(length)
        action = np.tile([0.0, 0.5, 0.0, 1.0, 0.0, 0.0], (length, 1))[:, :width].astype(np.float32)
        action[:, 0] = count / 100
        columns = {
            "action": pa.array(action.tolist(), pa.list_(pa.float32())),
            "speed": pa.array(2.0 * count),
            "timestamp": pa.array((count / fps).astype(np.float32)),
            "frame_index": pa.array(count),
            "episode_index": pa.array(np.full(length, episode)),
        }
        for index, camera in enumerate(cameras):
            shown = [shade(k + 20 * index) for k in range(length)]
            if image_dtype == "video":
                file = f"videos/chunk-{episode // 2:03d}/{camera}/episode_{episode:06d}.mp4"
                write_video(root / file, 1000 / fps * count, shown)
            else:
                cells = [{"bytes": _encoded_image(image, k), "path": f"frame_{k:06d}"} for k, image in enumerate(shown)]
                columns[camera] = pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        file = root / f"data/chunk-{episode // 2:03d}/episode_{episode:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file, row_group_size=10)
    return root


def _encoded_image(image: np.ndarray, k: int) -> bytes:
    if k % 2:
        return simplejpeg.encode_jpeg(image, 95)
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
