"""Writers for datasets with recorded ego motion, of drives with known motion, and the comparison with their stores."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from daydrive.data.store.drives import DriveInfo
from daydrive.data.store.store import Store
from helpers.carla_waymo import jpeg
from helpers.open_formats import write_video
from helpers.recordings import FINE, WHEELBASE, Truth, columns, intervals, quaternions, shown

WORLD = np.array([[0.6, 0.8, 0.0], [0.8, -0.6, 0.0], [0.0, 0.0, -1.0]])
"""From the initial vehicle axes (forward, right, down) to a world whose z axis points up."""
ORIGIN = np.array([4000.0, -3000.0, 20.0])


def poses(truth: Truth, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 3) m and quaternions (N, 4), real part first, of (forward, left, up) in the world."""
    yaw, zero = truth.at(truth.yaw, times), np.zeros(len(times))
    c, s = np.cos(yaw), np.sin(yaw)
    axes = np.moveaxis(np.array([[c, -s, zero], [s, c, zero], [zero, zero, zero + 1.0]]), -1, 0)
    positions = np.column_stack([truth.at(column, times) for column in truth.position.T] + [zero])
    return positions @ WORLD.T + ORIGIN, quaternions(WORLD @ axes * [1.0, -1.0, -1.0])


def check_drive(
    store: Store, drive: DriveInfo, truth: Truth, wheelbase: float, step: int = 1, coarse: float = 1.0
) -> dict[str, np.ndarray]:
    """Compares images, motion and actions of a stored drive with every `step`th frame of the truth; returns its values.

    coarse: factor of the tolerances of images, speed and pedals.
    """
    rows = drive.start + np.arange(drive.frames)
    chosen = step * np.arange(drive.frames)
    values, actions, edges = columns(store, rows), store.read_actions(rows), intervals(truth, chosen)
    images = np.stack(truth.images(store.image_size))[chosen]
    assert np.abs(shown(store, rows) - images).mean(axis=(1, 2, 3)).max() < 8 * coarse, "each row has the right image"
    assert np.allclose(values["time"], np.arange(drive.frames) / store.hz)
    assert np.abs(values["speed"] - truth.mean(truth.speed, edges)).max() < 0.25 * coarse
    assert np.abs(values["yaw_rate"] - truth.mean(truth.yaw_rate, edges)).max() < 0.07, "positive to the right"
    wheel = truth.mean(truth.wheel, edges)
    assert np.corrcoef(actions[:, 0], wheel)[0, 1] > 0.98, "positive to the right"
    assert np.abs(actions[:, 0] * 0.5 - np.arctan(wheelbase / WHEELBASE * np.tan(wheel))).max() < 0.03
    acceleration = truth.mean(np.gradient(truth.speed, FINE), edges)
    assert np.abs(actions[:, 1] - np.clip(acceleration / 4.0, 0.0, 1.0)).max() < 0.08 * coarse
    assert np.abs(actions[:, 2] - np.clip(-acceleration / 8.0, 0.0, 1.0)).max() < 0.04 * coarse
    assert (actions[:, 3] == 1).all()
    return values


def write_argoverse2(
    log: Path,
    truth: Truth,
    size: tuple[int, int] = (24, 32),
    cameras: tuple[str, ...] = ("ring_front_center", "ring_rear_left"),
    **changes: Any,
) -> Path:
    """Writes a log with poses at 100 Hz, each repeated after a nanosecond; images of the second camera are inverted.

    changes: replacements of columns of the poses, None to drop one.
    """
    for number, camera in enumerate(cameras):
        (log / "sensors/cameras" / camera).mkdir(parents=True)
        for nanos, image in zip(_nanos(truth.times), truth.images(size), strict=True):
            data = jpeg(255 - image if number else image)
            (log / "sensors/cameras" / camera / f"{nanos}.jpg").write_bytes(data)
    times = np.repeat(np.arange(truth.times[0] - 0.05, truth.times[-1] + 0.06, 0.01), 2)
    positions, turns = poses(truth, times)
    nanos = np.array(_nanos(times)) + np.arange(len(times)) % 2
    table: dict[str, Any] = {
        "timestamp_ns": pa.array(nanos, pa.int64()),
        **dict(zip(("qw", "qx", "qy", "qz"), turns.T, strict=True)),
        **dict(zip(("tx_m", "ty_m", "tz_m"), positions.T, strict=True)),
    }
    changed = {name: changes.get(name, column) for name, column in table.items() if changes.get(name, 0) is not None}
    feather.write_feather(pa.table(changed), str(log / "city_SE3_egovehicle.feather"))
    return log


TABLES = """
    CREATE TABLE log (token BLOB NOT NULL, vehicle_name VARCHAR(64), date VARCHAR(64), timestamp INTEGER,
        logfile VARCHAR(64), location VARCHAR(64), map_version VARCHAR(64), PRIMARY KEY (token));
    CREATE TABLE camera (token BLOB NOT NULL, log_token BLOB NOT NULL, channel VARCHAR(64), model VARCHAR(64),
        translation BLOB, rotation BLOB, intrinsic BLOB, distortion BLOB, width FLOAT, height FLOAT,
        PRIMARY KEY (token));
    CREATE TABLE image (token BLOB NOT NULL, next_token BLOB, prev_token BLOB, ego_pose_token BLOB NOT NULL,
        camera_token BLOB NOT NULL, filename_jpg VARCHAR(128), timestamp INTEGER, PRIMARY KEY (token));
    CREATE TABLE ego_pose (token BLOB NOT NULL, timestamp INTEGER, x FLOAT, y FLOAT, z FLOAT, qw FLOAT, qx FLOAT,
        qy FLOAT, qz FLOAT, vx FLOAT, vy FLOAT, vz FLOAT, acceleration_x FLOAT, acceleration_y FLOAT,
        acceleration_z FLOAT, angular_rate_x FLOAT, angular_rate_y FLOAT, angular_rate_z FLOAT, epsg INTEGER,
        log_token BLOB NOT NULL, PRIMARY KEY (token));
"""


def write_nuplan(
    root: Path,
    name: str,
    truth: Truth,
    size: tuple[int, int] = (24, 32),
    part: str = "splits/mini",
    images: bool = True,
) -> Path:
    """Writes part/NAME.db, with poses at 100 Hz, and sensor_blobs/NAME; the images of CAM_B0 are inverted. Returns the
    database."""
    file = root / part / f"{name}.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for token, camera in ((b"f0", "CAM_F0"), (b"b0", "CAM_B0")):
        folder = root / "sensor_blobs" / name / camera
        folder.mkdir(parents=True, exist_ok=True)
        for k, image in enumerate(truth.images(size)):
            path = f"{name}/{camera}/{k * 7919 % 65536:016x}.jpg"
            rows.append((token + bytes([k]), token, path, round(truth.times[k] * 1e6)))
            if images:
                (root / "sensor_blobs" / path).write_bytes(jpeg(image if camera == "CAM_F0" else 255 - image))
    times = np.arange(truth.times[0] - 0.05, truth.times[-1] + 0.06, 0.01)
    positions, turns = poses(truth, times)
    readings = [
        (k.to_bytes(8, "big"), round(times[k] * 1e6), *positions[k].tolist(), *turns[k].tolist(), b"log")
        for k in range(len(times))
    ]
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(TABLES)
        connection.execute("INSERT INTO log (token, vehicle_name) VALUES (?, ?)", (b"log", "veh-35"))
        cameras = [(b"f0", b"log", "CAM_F0"), (b"b0", b"log", "CAM_B0")]
        connection.executemany("INSERT INTO camera (token, log_token, channel) VALUES (?, ?, ?)", cameras)
        columns_of_image = "token, camera_token, filename_jpg, timestamp, ego_pose_token"
        connection.executemany(f"INSERT INTO image ({columns_of_image}) VALUES (?, ?, ?, ?, x'00')", reversed(rows))
        columns_of_pose = "token, timestamp, x, y, z, qw, qx, qy, qz, log_token"
        connection.executemany(f"INSERT INTO ego_pose ({columns_of_pose}) VALUES ({'?,' * 9}?)", reversed(readings))
    return file


LANDSCAPE = (1.0, 0.0, 0.0)
"""The direction of gravity in the axes of a phone on its side, as in the originals."""


def write_bdd100k(
    root: Path, clip: str, truth: Truth, part: str = "train", down: tuple[float, float, float] = LANDSCAPE,
    android: bool = False, turned: float = 1.0, size: tuple[int, int] = (48, 64), **changes: Any,
) -> Path:  # fmt: skip
    """Writes videos/PART/CLIP.mov and info/100k/PART/CLIP.json; returns the latter.

    down: direction of gravity in the axes of the phone. android: accelerations in m/s² and upwards instead of g and
    downwards. turned: factor of the gyroscope's readings. changes: replacements of entries, None to drop one.
    """
    write_video(root / "videos" / part / f"{clip}.mov", 1000 * (truth.times - truth.times[0]), truth.images(size))
    start = round(1000 * truth.times[0])
    fixes = np.arange(truth.times[0] - 0.08, truth.times[-1] + 0.1)
    north, east = (truth.at(column, fixes) for column in truth.position.T)
    course = np.degrees(truth.at(truth.yaw, fixes)) % 360.0
    locations = [
        {"timestamp": round(1000 * t), "latitude": 40.6 + north[k] / 111_195, "longitude": -73.8 + east[k] / 84_400,
         "speed": abs(truth.at(truth.speed, fixes)[k]), "course": course[k], "accuracy": 5.0}
        for k, t in enumerate(fixes.tolist())
    ]  # fmt: skip
    times = np.arange(truth.times[0], truth.times[-1] + 0.1, 0.02)
    gravity = np.array(down) * (-9.81 if android else 1.0)
    turns = turned * truth.at(truth.yaw_rate, times)[:, None] * np.array(down)
    content: dict[str, Any] = {
        "rideID": f"ride of {clip}",
        "accelerometer": [_reading(t, gravity + 0.02 * np.sin(50 * t)) for t in times.tolist()],
        "gyro": [_reading(t, turns[k]) for k, t in enumerate(times.tolist())],
        "timelapse": False,
        "locations": locations,
        "filename": "6257be58-bb59.mov",
        "startTime": start,
        "endTime": round(1000 * truth.times[-1]),
        "id": "c7d3e026",
        "gps": [{key: fix[key] for key in ("timestamp", "latitude", "longitude", "speed")} for fix in locations],
    }
    content = {key: changes.get(key, value) for key, value in content.items() if changes.get(key, 0) is not None}
    file = root / "info/100k" / part / f"{clip}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


FRONT = "camera_front_wide_120fov"


def write_physicalai(
    root: Path, chunk: int, clips: dict[str, Truth], size: tuple[int, int] = (48, 64), packed: bool = True,
    camera: str = FRONT, **changes: Any,
) -> Path:  # fmt: skip
    """Writes a chunk of the camera and of the egomotion, as archives or unpacked; the video's rate is constant.

    changes: replacements of the columns of egomotion, None to drop one; `stamps` replaces those of the frames.
    """
    cameras, labels = root / "camera" / camera / f"{camera}.chunk_{chunk:04d}", root / "labels/egomotion"
    motion = labels / f"egomotion.chunk_{chunk:04d}"
    for folder in (cameras, motion):
        folder.mkdir(parents=True, exist_ok=True)
    for clip, truth in clips.items():
        write_video(cameras / f"{clip}.{camera}.mp4", 1000 / truth.hz * np.arange(truth.frames), truth.images(size))
        stamps = changes.get("stamps", np.round(1e6 * (truth.times - truth.times[0])).astype(np.int64) - 14_200)
        pq.write_table(pa.table({"timestamp": stamps}), cameras / f"{clip}.{camera}.timestamps.parquet")
        times = np.arange(truth.times[0] - 0.05, truth.times[-1] + 0.06, 0.01)
        positions, turns = poses(truth, times)
        columns_of_pose: dict[str, Any] = {
            "timestamp": np.round(1e6 * (times - truth.times[0])).astype(np.int64) - 14_200,
            **dict(zip(("qw", "qx", "qy", "qz"), turns.T, strict=True)),
            **dict(zip(("x", "y", "z"), positions.T, strict=True)),
            "curvature": np.zeros(len(times)),
        }
        changed = {
            key: changes.get(key, column) for key, column in columns_of_pose.items() if changes.get(key, 0) is not None
        }
        pq.write_table(pa.table(changed), motion / f"{clip}.egomotion.parquet")
    for folder in (cameras, motion) if packed else ():
        with zipfile.ZipFile(folder.with_name(f"{folder.name}.zip"), "w") as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
        shutil.rmtree(folder)
    return root


def _reading(time: float, vector: np.ndarray) -> dict[str, float]:
    return {"timestamp": round(1000 * time), **dict(zip("xyz", vector.tolist(), strict=True))}


def _nanos(times: np.ndarray) -> list[int]:
    """ns of times (N,) s, to whole µs."""
    return [round(time * 1e6) * 1000 for time in times.tolist()]
