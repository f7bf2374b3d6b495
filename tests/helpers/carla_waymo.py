"""Writers for CARLA recordings and Waymo v2 segments of drives with known motion."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from helpers.recordings import Truth

LARGEST_WHEEL = 0.3
"""Angle of the front wheels at steering 1 in CARLA's measurements, rad."""

PAGES = {"use_dictionary": False, "write_batch_size": 4, "data_page_size": 1 << 16}


def jpeg(image: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), 95, "RGB", "444")


def steer(truth: Truth) -> np.ndarray:
    """The driver's steering command at each frame, (N,), positive to the right."""
    return truth.at(truth.wheel) / LARGEST_WHEEL


def write_transfuser(
    route: Path,
    truth: Truth,
    size: tuple[int, int] = (24, 32),
    image_folder: str = "rgb",
    gz: bool = False,
    first: int = 0,
) -> Path:
    """Writes measurements/ and an image folder; rgb_full has four stacked views, each of another color."""
    folder = route / image_folder
    folder.mkdir(parents=True)
    (route / "measurements").mkdir()
    rows = measurements(truth)
    for k, image in enumerate(truth.images(size)):
        if image_folder == "rgb_full":
            image = np.concatenate([np.full_like(image, 50 * view) for view in range(4)])
        (folder / f"{first + k:04d}.jpg").write_bytes(jpeg(image))
        text = json.dumps(rows[k]).encode()
        file = route / "measurements" / f"{first + k:04d}.json"
        file.with_suffix(".json.gz").write_bytes(gzip.compress(text)) if gz else file.write_bytes(text)
    return route


def write_bench2drive(clip: Path, truth: Truth, size: tuple[int, int] = (24, 32)) -> Path:
    """Writes camera/rgb_front, camera/rgb_back and anno/, whose commands are those that led to the image."""
    rows = measurements(truth)
    for name in ("camera/rgb_front", "camera/rgb_back", "anno"):
        (clip / name).mkdir(parents=True)
    for k, image in enumerate(truth.images(size)):
        (clip / f"camera/rgb_front/{k:05d}.jpg").write_bytes(jpeg(image))
        (clip / f"camera/rgb_back/{k:05d}.jpg").write_bytes(jpeg(255 - image))
        before = rows[max(k - 1, 0)]
        commands = {name: before[name] for name in ("steer", "throttle", "brake")}
        annotation = {
            **rows[k],
            **commands,
            "brake": float(before["brake"]),
            "reverse": truth.backwards,
            "bounding_boxes": [],
        }
        (clip / f"anno/{k:05d}.json.gz").write_bytes(gzip.compress(json.dumps(annotation).encode()))
    return clip


def measurements(truth: Truth) -> list[dict[str, Any]]:
    """CARLA measurements: x forward at the start, y to the right; the compass is 0 along -y and clockwise."""
    speed, yaw, wheel = truth.at(np.abs(truth.speed)), truth.at(truth.yaw), steer(truth)
    x, y = (truth.at(column) for column in truth.position.T)
    return [
        {
            "x": x[k], "y": y[k], "theta": (yaw[k] + np.pi / 2) % (2 * np.pi), "speed": speed[k], "steer": wheel[k],
            "throttle": k / 100, "brake": bool(k % 2), "command": 4, "waypoints": [],
        }
        for k in range(truth.frames)
    ]  # fmt: skip


def write_waymo(
    folder: Path, segment: str, truth: Truth, size: tuple[int, int] = (24, 32), cameras: int = 2,
    group_rows: int = 16, shuffled: bool = False, **changes: Any,
) -> Path:  # fmt: skip
    """Writes camera_image/ and vehicle_pose/ of a segment. changes: replacements of columns, None to drop one."""
    micros = np.round(truth.times * 1e6).astype(np.int64)
    positions, axes = truth.camera(ahead=0.0)
    world = np.array([[0.6, 0.8, 0.0], [0.8, -0.6, 0.0], [0.0, 0.0, -1.0]])
    """From the initial vehicle axes (forward, right, down) to Waymo's world, whose z axis points up."""
    matrices = np.tile(np.eye(4), (truth.frames, 1, 1))
    matrices[:, :3, :3] = world @ axes * [1.0, -1.0, -1.0]
    matrices[:, :3, 3] = positions @ world.T + [4000.0, -3000.0, 20.0]
    images = truth.images(size)
    rows = [(k, camera) for k in range(truth.frames) for camera in range(cameras, 0, -1)]
    if shuffled:
        rows = [rows[k] for k in np.random.default_rng(0).permutation(len(rows))]
    image_columns: dict[str, Any] = {
        "index": [f"{segment};{micros[k]};{camera}" for k, camera in rows],
        "key.segment_context_name": [segment] * len(rows),
        "key.frame_timestamp_micros": pa.array([micros[k] for k, _ in rows], pa.int64()),
        "key.camera_name": pa.array([camera for _, camera in rows], pa.int8()),
        "[CameraImageComponent].image": pa.array(
            [jpeg(images[k] if camera == 1 else 255 - images[k]) for k, camera in rows], pa.binary()
        ),
        "[CameraImageComponent].pose_timestamp": [float(truth.times[k]) for k, _ in rows],
    }
    poses: dict[str, Any] = {
        "key.segment_context_name": [segment] * truth.frames,
        "key.frame_timestamp_micros": pa.array(micros, pa.int64()),
        "[VehiclePoseComponent].world_from_vehicle.transform": pa.array(
            matrices.reshape(-1, 16).tolist(), pa.list_(pa.float64(), 16)
        ),
    }
    for name, columns in (("camera_image", image_columns), ("vehicle_pose", poses)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        changed = {key: changes.get(key, column) for key, column in columns.items() if changes.get(key, 0) is not None}
        pq.write_table(pa.table(changed), folder / name / f"{segment}.parquet", row_group_size=group_rows, **PAGES)
    return folder
