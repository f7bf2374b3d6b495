"""Writer for small nuScenes datasets with known motion: v1.0 tables, images of several cameras, CAN bus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from helpers.drives import numbered_image
from helpers.recordings import Truth

EPOCH = 1_533_151_603_512_404
"""Start of the first scene, µs since 1970; each scene starts a minute after the previous one."""

SLOT = 0.05
EXPOSURES = (0, 2, 3, 5, 7, 8)
"""Lidar rotations, of ten, with an image; the first one is a key frame."""

RATIO = 16.0
CAMERAS = ("CAM_FRONT", "CAM_BACK")
TABLES = ("attribute", "category", "instance", "sample_annotation", "visibility")
Edit = Callable[[list[dict[str, Any]]], object]


@dataclass(frozen=True)
class SceneSpec:
    """A scene to write. lost: indices of missing images of the front camera. can, zoe: write CAN data, zoesensors."""

    name: str
    seed: int = 0
    log: str = ""
    seconds: float = 5.0
    lost: tuple[int, ...] = ()
    can: bool = True
    zoe: bool = True

    @cached_property
    def truth(self) -> Truth:
        return Truth(round(self.seconds * 20), 20.0, self.seed, start=0.0)

    @property
    def logfile(self) -> str:
        return self.log or f"n015-{self.name}"

    def slots(self) -> list[int]:
        """The lidar rotations at which the front camera has images."""
        turns = [k for k in range(round(self.seconds / SLOT)) if k % 10 in EXPOSURES]
        return [turn for k, turn in enumerate(turns) if k not in self.lost]

    def micros(self, number: int) -> np.ndarray:
        """Times of the front camera's images, µs since 1970; `number` is the scene's index in the dataset."""
        return EPOCH + number * 60_000_000 + np.array(self.slots()) * 50_000 + np.array(self.slots()) % 3


def throttle_at(t: np.ndarray) -> np.ndarray:
    """Throttle, 0 to 1000, at times `t`, s since the scene's start."""
    return np.round(450 + 400 * np.sin(1.7 * t))


def brake_at(t: np.ndarray) -> np.ndarray:
    """Brake pressure, bar, at times `t`, s since the scene's start."""
    return np.round(np.clip(60 * np.sin(1.1 * t + 2.0), 0, 126))


def token(*parts: object) -> str:
    return hashlib.md5(repr(parts).encode()).hexdigest()


def write_nuscenes(
    root: Path,
    scenes: Sequence[SceneSpec],
    version: str = "v1.0-mini",
    cameras: Sequence[str] = CAMERAS,
    size: tuple[int, int] = (36, 64),
    sweeps: bool = True,
) -> Path:
    """Writes a dataset to `root`. Image k of camera c shows `numbered_image(shade(k, c))`."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    channels = [*cameras, "LIDAR_TOP"]
    tables["sensor"] = [
        {"token": token("sensor", c), "channel": c, "modality": "lidar" if c == "LIDAR_TOP" else "camera"}
        for c in channels
    ]
    for name in ("calibrated_sensor", "ego_pose", "log", "sample", "sample_data", "scene"):
        tables[name] = []
    for number, scene in enumerate(scenes):
        _add_scene(tables, root, number, scene, cameras, size, sweeps)
    logs = [record["token"] for record in tables["log"]]
    tables["map"] = [
        {"token": token("map"), "category": "semantic_prior", "filename": "maps/m.png", "log_tokens": logs}
    ]
    (root / "maps").mkdir(parents=True, exist_ok=True)
    (root / "maps" / "m.png").write_bytes(b"")
    (root / version).mkdir()
    for name, records in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(records, indent=0))
    return root


def shade(k: int, camera: int) -> int:
    return (37 * k + 100 * camera) % 251


def edit(file: Path, change: Edit) -> None:
    """Edits the records of a table in place."""
    records = json.loads(file.read_text())
    change(records)
    file.write_text(json.dumps(records, indent=0))


def _add_scene(
    tables: dict[str, list[dict[str, Any]]], root: Path, number: int, scene: SceneSpec, cameras: Sequence[str],
    size: tuple[int, int], sweeps: bool,
) -> None:  # fmt: skip
    start = EPOCH + number * 60_000_000
    keys = [slot for slot in scene.slots() if slot % 10 == 0]
    samples = [token("sample", scene.name, slot) for slot in keys]
    for k, slot in enumerate(keys):
        around = {"prev": samples[k - 1] if k else "", "next": samples[k + 1] if k + 1 < len(keys) else ""}
        moment = {"token": samples[k], "timestamp": start + slot * 50_000, "scene_token": token("scene", scene.name)}
        tables["sample"].append({**moment, **around})
    if token("log", scene.logfile) not in [record["token"] for record in tables["log"]]:
        log = {"token": token("log", scene.logfile), "logfile": scene.logfile, "vehicle": "n015"}
        tables["log"].append({**log, "date_captured": "2018-08-01", "location": "boston-seaport"})
    tables["scene"].append(
        {
            "token": token("scene", scene.name),
            "log_token": token("log", scene.logfile),
            "nbr_samples": len(samples),
            "first_sample_token": samples[0] if samples else "",
            "last_sample_token": samples[-1] if samples else "",
            "name": scene.name,
            "description": "Straße, вправо",
        }
    )
    for number_of, channel in enumerate([*cameras, "LIDAR_TOP"]):
        calibrated = token("calibrated", scene.name, channel)
        tables["calibrated_sensor"].append(
            {
                "token": calibrated,
                "sensor_token": token("sensor", channel),
                "translation": [1.7, 0.0, 1.5],
                "rotation": [0.5, -0.5, 0.5, -0.5],
                "camera_intrinsic": [] if channel == "LIDAR_TOP" else [[1266.4, 0, 816], [0, 1266.4, 491], [0, 0, 1]],
            }
        )
        slots = list(range(round(scene.seconds / SLOT))) if channel == "LIDAR_TOP" else scene.slots()
        late = [0, 8_000, -3_000][number_of % 3]
        micros = [int(m) + late for m in start + np.array(slots) * 50_000 + np.array(slots) % 3]
        names = [token("data", scene.name, channel, slot) for slot in slots]
        for k, slot in enumerate(slots):
            key = slot % 10 == 0
            folder = "samples" if key else "sweeps"
            suffix = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
            file = f"{folder}/{channel}/{scene.logfile}__{channel}__{micros[k]}.{suffix}"
            following = next((i for i, at in enumerate(keys) if at >= slot), len(keys) - 1)
            tables["sample_data"].append(
                {
                    "token": names[k],
                    "sample_token": samples[following],
                    "ego_pose_token": names[k],
                    "calibrated_sensor_token": calibrated,
                    "timestamp": micros[k],
                    "fileformat": suffix[:3],
                    "is_key_frame": key,
                    "height": 0 if suffix != "jpg" else size[0],
                    "width": 0 if suffix != "jpg" else size[1],
                    "filename": file,
                    "prev": names[k - 1] if k else "",
                    "next": names[k + 1] if k + 1 < len(slots) else "",
                }
            )
            tables["ego_pose"].append(
                {"token": names[k], "timestamp": micros[k], **_pose(scene.truth, (micros[k] - start) / 1e6)}
            )
            if suffix == "jpg" and (key or sweeps):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_bytes(simplejpeg.encode_jpeg(numbered_image(shade(k, number_of), size), 95))
    if scene.can:
        _write_can(root / "can_bus", scene, start)


def _pose(truth: Truth, t: float) -> dict[str, list[float]]:
    """Pose of the rear axle on the map: x forward at the start, y to the left."""
    at = np.array([t])
    heading = -float(truth.at(truth.yaw, at)[0])
    x, right = (float(truth.at(column, at)[0]) for column in truth.position.T)
    turn = [float(np.cos(heading / 2)), 0.0, 0.0, float(np.sin(heading / 2))]
    return {"rotation": turn, "translation": [400.0 + x, 1100.0 - right, 0.0]}


def _write_can(folder: Path, scene: SceneSpec, start: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    truth = scene.truth

    def write(message: str, hz: float, fields: Callable[[np.ndarray], dict[str, Any]]) -> None:
        times = np.arange(-0.05, scene.seconds + 0.05, 1.0 / hz)
        columns = {name: np.asarray(values).tolist() for name, values in fields(times).items()}
        utimes = (start + np.round(times * 1e6)).astype(int).tolist()
        messages = [{"utime": u, **{name: column[k] for name, column in columns.items()}} for k, u in enumerate(utimes)]
        (folder / f"{scene.name}_{message}.json").write_text(json.dumps(messages))

    def three(first: np.ndarray | float, last: np.ndarray | float) -> np.ndarray:
        return np.stack(np.broadcast_arrays(first, 0.0, last), axis=-1)

    write("steeranglefeedback", 100, lambda t: {"value": -RATIO * truth.at(truth.wheel, t)})
    write(
        "vehicle_monitor", 2,
        lambda t: {
            "throttle": throttle_at(t).astype(int), "brake": brake_at(t).astype(int),
            "gear_position": np.full(len(t), 7), "vehicle_speed": 3.6 * truth.at(truth.speed, t),
        },
    )  # fmt: skip
    if scene.zoe:
        sensors = {"throttle_sensor": (0.105, 3e-4, throttle_at), "brake_sensor": (0.17, 3.6e-3, brake_at)}
        write("zoesensors", 250, lambda t: {name: a + b * of(t) for name, (a, b, of) in sensors.items()})
    write(
        "pose", 50,
        lambda t: {
            "vel": three(truth.at(truth.speed, t), 0.0), "rotation_rate": three(0.0, -truth.at(truth.yaw_rate, t)),
            "pos": three(truth.at(truth.position[:, 0], t), 0.0),
        },
    )  # fmt: skip
