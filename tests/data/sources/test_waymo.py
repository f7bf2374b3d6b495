"""Waymo v2: store contents of a drive with known motion, and errors for malformed data."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from daydrive.data.quality.check import find_bad_rows
from daydrive.data.sources import read_options, waymo
from daydrive.evaluation import EvaluateConfig
from daydrive.evaluation.pipeline import evaluate
from helpers import carla_waymo
from helpers.carla_waymo import jpeg, write_waymo
from helpers.recordings import Truth, columns, intervals, prepared, shown
from helpers.refusals import refused
from helpers.runs import run_training

ANGLE = 0.5 / 2.71 * 2.99
"""Angle of the front wheels at steering 1, adjusted for the wheelbase of `Truth`."""


@pytest.mark.parametrize("shuffled", [False, True])
def test_frames_times_poses_and_their_order(shuffled: bool, tmp_path: Path) -> None:
    truth = Truth(60, hz=10.0, seed=2, start=1.5e9)
    write_waymo(tmp_path / "raw" / "training", "segment-1_with_camera_labels", truth, shuffled=shuffled)
    store = prepared("waymo", tmp_path, size=(24, 32))
    assert store.hz == 10.0 and {d.name.rsplit(".", 1)[0] for d in store.drives} == {"segment-1_with_camera_labels"}
    rows = store.drives[0].start + np.arange(store.drives[0].frames)
    values, actions = columns(store, rows), store.read_actions(rows)
    count = np.arange(len(rows))
    assert np.array_equal(values["timestamp"], np.round(truth.times[count] * 1e6)) and np.allclose(
        values["time"], count / 10
    )
    wrong = np.abs(shown(store, rows) - np.stack(truth.images((24, 32)))[count]).mean(axis=(1, 2, 3))
    assert wrong.max() < 6, "each row has the right image of the front camera"
    edges = intervals(truth, count)
    assert np.corrcoef(actions[:, 0], truth.mean(truth.wheel, edges))[0, 1] > 0.98
    assert np.abs(values["speed"] - truth.mean(truth.speed, edges)).max() < 0.2
    assert np.abs(values["yaw_rate"] - truth.mean(truth.yaw_rate, edges)).max() < 0.06, "positive to the right"
    left = truth.mean(truth.wheel, edges) < -0.05
    assert left.sum() > 5 and (actions[left, 0] < 0).all() and (actions[:, 3] == 1).all()
    assert np.abs(actions[:, 0] * 0.5 - np.arctan(2.99 * values["yaw_rate"] / values["speed"])).max() < 0.02
    assert not find_bad_rows(store) and store.metadata["camera"] == "FRONT"
    source = waymo.WaymoSource()
    (drive,) = source.drives(tmp_path / "raw", read_options(source, {}), (24, 32))
    assert drive.length == len(list(pickle.loads(pickle.dumps(drive)).frames())) == 60


def test_constant_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a few images, or a page of the file, are in memory at once, even with large row groups."""
    monkeypatch.setattr(carla_waymo, "jpeg", lambda image: os.urandom(50_000))
    folder = write_waymo(tmp_path / "raw", "s", Truth(60, hz=10.0), group_rows=1000)
    segment = waymo._Segment(folder, folder, "s", 1)
    _, rows = segment.frames()
    allocated: list[int] = []
    monkeypatch.setattr(waymo, "BATCH_ROWS", 4)
    before = pa.total_allocated_bytes()
    for _ in segment.read_images(rows):
        allocated.append(pa.total_allocated_bytes() - before)
    assert len(allocated) == 60 and max(allocated) < 2_000_000 and (folder / IMAGES).stat().st_size > 6_000_000


def test_another_camera_another_rate_and_a_gap(tmp_path: Path) -> None:
    truth = Truth(80, hz=10.0, seed=1)
    write_waymo(tmp_path / "raw" / "training", "a", truth)
    late = np.round(truth.times * 1e6).astype(np.int64) + np.where(np.arange(80) < 40, 0, 5_000_000)
    changes = {
        "key.frame_timestamp_micros": pa.array(late, pa.int64()),
        "key.camera_name": pa.array([2] * 80, pa.int8()),
        "[CameraImageComponent].image": [jpeg(255 - p) for p in truth.images((24, 32))],
    }
    write_waymo(tmp_path / "raw" / "training", "b", truth, cameras=1, **changes)
    store = prepared("waymo", tmp_path, size=(24, 32), camera="front_left", hz=5)
    assert {d.name for d in store.drives} >= {"b.0.train", "a.train"} or {d.name for d in store.drives} == {
        "a", "b.0", "b.1",
    }  # fmt: skip
    drive = next(d for d in store.drives if d.name.startswith("a"))
    sample = drive.start + np.arange(4)
    wrong = np.abs(255 - shown(store, sample) - np.stack(truth.images((24, 32)))[[0, 2, 4, 6]]).mean(axis=(1, 2, 3))
    assert wrong.max() < 6 and store.hz == 5.0
    assert prepared("waymo", tmp_path, size=(8, 8), camera="2", limit=1).metadata["camera"] == "FRONT_LEFT"


def test_official_splits(tmp_path: Path) -> None:
    for name, part in (("a", "training"), ("b", "training"), ("c", "training"), ("v", "validation")):
        write_waymo(tmp_path / "raw" / part, name, Truth(20, hz=10.0), (8, 8), cameras=1)
    splits = {d.name: d.split for d in prepared("waymo", tmp_path, size=(8, 8)).drives}
    assert splits["v"] == "test" and sorted(splits[name] for name in "abc") == ["train", "train", "val"]
    write_waymo(tmp_path / "raw" / "testing", "t", Truth(20, hz=10.0), (8, 8), cameras=1)
    splits = {d.name: d.split for d in prepared("waymo", tmp_path, size=(8, 8), split="official").drives}
    assert splits == {"a": "train", "b": "train", "c": "train", "v": "val", "t": "test"}
    other = {d.name: d.split for d in prepared("waymo", tmp_path, size=(8, 8), split="by-drive", seed=3).drives}
    assert sorted(other.values()) == ["test", "train", "train", "train", "val"]
    alone = prepared("waymo", tmp_path, tmp_path / "raw" / "training", (8, 8))
    assert {d.split for d in alone.drives} == {"train", "val", "test"}


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k, part in enumerate(("training", "validation", "testing")):
        write_waymo(tmp_path / "raw" / part, f"s {k} é", Truth(30, hz=10.0, seed=k), cameras=1)
    store = prepared("waymo", tmp_path, size=(64, 64), fit="crop")
    run = tmp_path / "run"
    assert run_training(tiny_config, store.path, run, "training.max_steps=2", "training.gradient_accumulation=1") == 0
    assert evaluate(run, store.path, tmp_path / "evaluation", EvaluateConfig(split="test", horizon=3, clips=4))


TIME, CAMERA = "key.frame_timestamp_micros", "key.camera_name"
SEGMENT, IMAGE = "key.segment_context_name", "[CameraImageComponent].image"
POSE = "[VehiclePoseComponent].world_from_vehicle.transform"
IMAGES, POSES = "camera_image/s.parquet", "vehicle_pose/s.parquet"
TRUTH = Truth(20, hz=10.0, start=0.0)
SMALL = jpeg(TRUTH.images((8, 8))[0])
MICROS = np.round(TRUTH.times * 1e6).astype(np.int64)


def changed(**columns: object) -> Callable[[Path], object]:
    names = {"segment": SEGMENT, "time": TIME, "camera": CAMERA, "image": IMAGE, "pose": POSE}
    replaced = {names[key]: column for key, column in columns.items()}
    return lambda root: write_waymo(root, "s", TRUTH, (8, 8), cameras=1, **replaced)


def poses(row: int, edit: Callable[[np.ndarray], np.ndarray]) -> pa.Array:
    found = np.tile(np.eye(4).reshape(16), (20, 1))
    rows = found.tolist()
    rows[row] = edit(found[row]).tolist()
    return pa.array(rows, pa.list_(pa.float64()))


def images(row: int, data: bytes | None) -> pa.Array:
    found = [jpeg(image) for image in TRUTH.images((8, 8))]
    return pa.array([*found[:row], data, *found[row + 1 :]], pa.binary())


def truncated(name: str, share: float) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(
        (root / name).read_bytes()[: int(share * (root / name).stat().st_size)]
    )


def huge(data: bytes) -> bytes:
    """A JPEG whose header claims 60000x60000 pixels."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + (60000).to_bytes(2, "big") * 2 + data[at + 4 :]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (truncated(IMAGES, 0.5), "s.parquet cannot be read"),
        (truncated(POSES, 0.0), "vehicle_pose/s.parquet cannot be read"),
        (lambda root: (root / IMAGES).write_text("not parquet"), "camera_image/s.parquet cannot be read"),
        (lambda root: (root / POSES).unlink(), "vehicle_pose/s.parquet does not exist"),
        (lambda root: os.rename(root / IMAGES, root / "camera_image/t.parquet"), "pose/t.parquet does not exist"),
        (
            lambda root: [os.rename(root / n, root / n.replace("/s.", "/t.")) for n in (IMAGES, POSES)],
            "has rows of s, but its name is that of t",
        ),
        (changed(camera=None), "has no column 'key.camera_name'"),
        (changed(image=None), "has no column '[CameraImageComponent].image'"),
        (changed(pose=None), "has no column '[VehiclePoseComponent].world_from_vehicle.transform'"),
        (changed(camera=["FRONT"] * 20), "the column 'key.camera_name' is string, expected integers"),
        (changed(camera=pa.array([2] * 20, pa.int8())), "has 0 images of FRONT"),
        (changed(time=pa.array([*MICROS[:-1], None], pa.int64())), "row 19: key.frame_timestamp_micros is missing"),
        (changed(time=pa.array([*MICROS[:-1], MICROS[3]], pa.int64())), "row 19: the frame 300000 is already in row 3"),
        (changed(pose=poses(4, lambda p: p[:12])), "row 4: the pose has 12 numbers, expected 16"),
        (changed(pose=poses(5, lambda p: p * np.nan)), "row 5: the pose contains a number that is not finite"),
        (changed(pose=poses(6, lambda p: p * 2)), "row 6: the pose is not a rotation and translation"),
        (changed(image=images(2, b"")), "s.parquet, row 2: the image of the frame 200000 is empty"),
        (changed(image=images(2, None)), "s.parquet, row 2: the image of the frame 200000 is empty"),
        (changed(image=["text"] * 20), "s.parquet, row 0: the image of the frame 0 is empty"),
        (changed(image=images(7, b"\x89PNG")), "row 7: of the frame 700000 is not a supported image"),
        (changed(image=images(7, SMALL[:200])), "row 7: the image of the frame 700000 is a damaged JPEG"),
        (
            changed(image=images(7, huge(SMALL))),
            "the image of the frame 700000 is 60000x60000, more than the maximum of 100 million pixels",
        ),
        (lambda root: write_waymo(root / "training", "a", TRUTH, (8, 8)), "has both camera_image/ and training/"),
        (
            lambda root: [os.rename(root / IMAGES, root / "s.tfrecord"), (root / POSES).unlink()],
            "has .tfrecord files (v1)",
        ),
    ],
)  # fmt: skip
def test_malformed(spoil: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    root = write_waymo(tmp_path / "raw", "s", TRUTH, (8, 8), cameras=1)
    spoil(root)
    message = refused("waymo", tmp_path)
    assert expected in message, message


def test_links_missing_poses_and_options(tmp_path: Path) -> None:
    root = write_waymo(tmp_path / "raw", "s", TRUTH, (8, 8), cameras=1)
    for options, expected in (
        ({"camera": "REAR"}, "--camera REAR: there is no such camera"),
        ({"camera": "6"}, "--camera 6: there is no such camera"),
        ({"split": "official"}, "--split official: "),
        ({"split": "random"}, "--split random: must be official or by-drive"),
        ({"hz": 25}, "has 10 frames per second, too few for --hz 25"),
    ):
        assert expected in refused("waymo", tmp_path, **options)
    write_waymo(tmp_path / "other", "s", Truth(20, hz=10.0, start=77.0), (8, 8), cameras=1)
    os.replace(tmp_path / "other" / POSES, root / POSES)
    assert "has no pose of the frame 0 in" in refused("waymo", tmp_path)
    os.rename(root / POSES, tmp_path / "p")
    (root / POSES).symlink_to(tmp_path / "p")
    assert "is a link out of the data root" in refused("waymo", tmp_path)
