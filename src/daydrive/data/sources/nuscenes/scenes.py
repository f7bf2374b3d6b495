"""The images of one camera in each scene, assembled from the tables of a nuScenes version.

    scene → log; sample → scene; sensor ← calibrated_sensor ← sample_data → sample, ego_pose

`sample_data` and `ego_pose` have a record for every reading of every sensor, 2.6 million in v1.0-trainval; only those
of the camera are retained in memory.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from daydrive.data.sources.nuscenes.records import Record, read_table, record_location, records
from daydrive.errors import UserError, did_you_mean

Array = npt.NDArray[np.float64]
T = TypeVar("T")

READINGS, POSES = "sample_data.json", "ego_pose.json"


@dataclass(frozen=True)
class Scene:
    """The images of one camera in a scene, key frames and sweeps, in the order of the `next` links.

    tokens: (N,) of sample_data. files: (N,) paths relative to the data root. micros: int64 (N,), µs since 1970,
    increasing. key_frames: bool (N,). positions: (N, 3), m on the map; quaternions: (N, 4), real part first, of the
    vehicle axes (forward, left, up).
    """

    name: str
    log: str
    tokens: list[str]
    files: list[str]
    micros: npt.NDArray[np.int64]
    key_frames: npt.NDArray[np.bool_]
    positions: Array
    quaternions: Array

    @property
    def seconds(self) -> Array:
        """(N,) s since the first image."""
        return (self.micros - self.micros[0]) / 1e6


class _Image(NamedTuple):
    number: int
    token: str
    prev: str
    next: str
    pose: str
    micros: int
    file: str
    key_frame: bool


def read_scenes(root: Path, version: str, camera: str) -> list[Scene]:
    """The scenes of `<root>/<version>` in the order of scene.json, with the images of `camera`."""
    folder = root / version
    logs, scenes = read_table(folder / "log.json", root), read_table(folder / "scene.json", root)
    if not scenes:
        raise UserError(f"{folder / 'scene.json'} has no scenes")
    by_name: dict[str, Record] = {}
    for record in scenes.values():
        other = by_name.setdefault(record.token("name"), record)
        if other is not record:
            raise UserError(f"{record.where}: the same name as record {other.number}, {record.fields['name']!r}")
    log_files = [_target(record, "log_token", logs).token("logfile") for record in scenes.values()]
    images_of_scenes = _read_images(folder, root, camera, scenes)
    for record, images in zip(scenes.values(), images_of_scenes, strict=True):
        if not images:
            raise UserError(f"{record.where}: {READINGS} has no images of {camera} in this scene")
    chains = [_chain(images, folder / READINGS) for images in images_of_scenes]
    rows = {token: row for row, token in enumerate(dict.fromkeys(p.pose for chain in chains for p in chain))}
    poses = _poses(folder, root, rows)
    result = []
    for name, log, chain in zip(by_name, log_files, chains, strict=True):
        scene_poses = np.array([poses[rows[image.pose]] for image in chain])
        for image, pose in zip(chain, scene_poses, strict=True):
            if np.isnan(pose[0]):
                where = record_location(folder / READINGS, image.number, image.token)
                raise UserError(f"{where}: its ego_pose_token {image.pose!r} is not in {POSES}")
        result.append(
            Scene(
                name,
                log,
                [image.token for image in chain],
                [image.file for image in chain],
                np.array([image.micros for image in chain], dtype=np.int64),
                np.array([image.key_frame for image in chain]),
                scene_poses[:, :3],
                scene_poses[:, 3:],
            )
        )
    return result


def _read_images(folder: Path, root: Path, camera: str, scenes: dict[str, Record]) -> list[dict[str, _Image]]:
    """The camera's images in each scene, by token."""
    sensors, calibrated = read_table(folder / "sensor.json", root), read_table(folder / "calibrated_sensor.json", root)
    cameras = {s.token("channel"): token for token, s in sensors.items() if s.text("modality") == "camera"}
    if camera not in cameras:
        raise UserError(f"--camera {camera}: {folder} has no such camera{did_you_mean(camera, cameras)}")
    is_camera = {
        token: _target(record, "sensor_token", sensors).fields["token"] == cameras[camera]
        for token, record in calibrated.items()
    }
    order = {token: number for number, token in enumerate(scenes)}
    scene_of = {}
    for record in records(folder / "sample.json", root):
        scene_of[record.token()] = order[_target(record, "scene_token", scenes).fields["token"]]
    found: list[dict[str, _Image]] = [{} for _ in scenes]
    interned: dict[str, str] = {}
    for record in records(folder / READINGS, root):
        if not _target(record, "calibrated_sensor_token", is_camera):
            continue
        token, prev, following, pose = (
            interned.setdefault(name, name)
            for name in (record.token(), record.text("prev"), record.text("next"), record.token("ego_pose_token"))
        )
        key_frame, micros = record.flag("is_key_frame"), record.integer("timestamp")
        image = _Image(record.number, token, prev, following, pose, micros, _file(record), key_frame)
        images = found[_target(record, "sample_token", scene_of)]
        if images.setdefault(token, image) is not image:
            raise UserError(f"{record.where}: the same token as record {images[token].number}")
    return found


def _target(record: Record, name: str, known: dict[str, T]) -> T:
    """The record (or value) that the token in field `name` refers to."""
    token = record.token(name)
    if token not in known:
        raise UserError(f"{record.where}: its {name} {token!r} is not in {name.removesuffix('_token')}.json")
    return known[token]


def _file(record: Record) -> str:
    name = record.token("filename")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise UserError(f"{record.where}: its filename {name!r} leads out of the data root")
    return name


def _chain(images: dict[str, _Image], file: Path) -> list[_Image]:
    """The images in the order of their `next` links; interrupted chains are joined in order of time."""

    def where(image: _Image) -> str:
        return record_location(file, image.number, image.token)

    ordered: list[_Image] = []
    for head in sorted((p for p in images.values() if not p.prev), key=lambda image: image.micros):
        ordered.append(head)
        while following := ordered[-1].next:
            if following not in images:
                raise UserError(
                    f"{where(ordered[-1])}: its next {following!r} is not an image of the same camera and scene"
                )
            if images[following].prev != ordered[-1].token:
                raise UserError(f"{where(ordered[-1])}: its next {following!r} does not refer back to it as prev")
            ordered.append(images[following])
    if len(ordered) < len(images):
        reached = {image.token for image in ordered}
        orphan = next(image for token, image in images.items() if token not in reached)
        raise UserError(f"{where(orphan)}: its prev {orphan.prev!r} does not lead to the start of the scene")
    for before, after in itertools.pairwise(ordered):
        if after.micros <= before.micros:
            raise UserError(
                f"{where(after)}: its timestamp {after.micros} is not after {before.micros}, that of its prev"
            )
    return ordered


def _poses(folder: Path, root: Path, rows: dict[str, int]) -> Array:
    """Translation and rotation, (len(rows), 7), of the poses with these tokens; NaN for missing ones."""
    found = np.full((len(rows), 7), np.nan)
    for record in records(folder / POSES, root):
        row = rows.get(record.token())
        if row is None:
            continue
        if not np.isnan(found[row, 0]):
            raise UserError(f"{record.where}: there is another record with the same token")
        found[row] = record.numbers("translation", 3) + record.numbers("rotation", 4)
        if np.linalg.norm(found[row, 3:]) < 0.5:
            raise UserError(f"{record.where}: its rotation {found[row, 3:].tolist()} is not a quaternion")
    return found
