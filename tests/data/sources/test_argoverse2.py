"""Argoverse 2: store contents of logs with known motion, and errors for malformed data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from daydrive.data.sources.ego_drives import PoseTrack
from helpers.ego_formats import check_drive, write_argoverse2
from helpers.open_formats import train_and_evaluate
from helpers.recordings import Truth, prepared
from helpers.refusals import refused

SIZE = (24, 32)
WHEELBASE = 2.85
POSES, FRONT = "city_SE3_egovehicle.feather", "sensors/cameras/ring_front_center"


def truth(seed: int = 0, frames: int = 60) -> Truth:
    return Truth(frames, hz=20.0, seed=seed, start=1000.0)


def test_images_motion_and_official_splits(tmp_path: Path) -> None:
    for k, part in enumerate(("train", "val", "test")):
        write_argoverse2(tmp_path / "raw" / part / f"log-{k}", truth(k))
    store = prepared("argoverse2", tmp_path, size=SIZE)
    assert store.hz == 20.0 and {d.name: d.split for d in store.drives} == {
        "log-0": "train", "log-1": "val", "log-2": "test",
    }  # fmt: skip
    for drive in store.drives:
        expected = truth(int(drive.name[-1]))
        values = check_drive(store, drive, expected, WHEELBASE)
        assert drive.frames == 60 and np.allclose(values["timestamp"], expected.times * 1e6)
        east = 0.6 * expected.at(expected.position[:, 0]) + 0.8 * expected.at(expected.position[:, 1]) + 4000.0
        assert np.allclose(values["x"], east, atol=0.02)
    by_drive = prepared("argoverse2", tmp_path, size=(8, 8), split="by-drive")
    assert sorted(d.split for d in by_drive.drives) == ["test", "train", "val"]


def test_another_camera_a_lower_rate_and_a_gap(tmp_path: Path) -> None:
    log = write_argoverse2(tmp_path / "raw" / "log", truth())
    for file in sorted((log / FRONT).iterdir())[28:32]:
        file.unlink()
    shutil.copytree(log, tmp_path / "raw" / "without")
    shutil.rmtree(tmp_path / "raw" / "without" / FRONT)
    front = prepared("argoverse2", tmp_path, size=(8, 8))
    assert {d.name.split(".")[1] for d in front.drives} == {"0", "1"} and 50 < front.rows <= 56
    shutil.rmtree(tmp_path / "raw" / "without")
    rear = prepared("argoverse2", tmp_path, size=SIZE, camera="ring_rear_left", hz=10, limit=1)
    assert rear.hz == 10.0 and rear.metadata["camera"] == "ring_rear_left"


def test_a_pose_that_is_repeated_after_a_nanosecond_does_not_move_the_car() -> None:
    times = np.array([0.0, 1e-9, 0.01, 0.02])
    positions = np.array([[0.0, 0, 0], [1e-6, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])
    track = PoseTrack.from_rows(times, positions, np.tile([1.0, 0, 0, 0], (4, 1)), "poses")
    assert np.allclose(track.rates().speed, 10.0) and len(track.times) == 3


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k, part in enumerate(("train", "val", "test")):
        write_argoverse2(tmp_path / "raw" / part / f"log{k}", truth(k, 24))
    train_and_evaluate(prepared("argoverse2", tmp_path, size=(64, 64)).path, tiny_config, tmp_path)


def rewritten(**changes: object) -> Callable[[Path], object]:
    def apply(log: Path) -> None:
        shutil.rmtree(log)
        write_argoverse2(log, truth(frames=24), (8, 8), **changes)

    return apply


def numbers(row: int, value: float | None, count: int = 252) -> pa.Array:
    return pa.array([value if k == row else 1.0 for k in range(count)], pa.float64())


def linked_out(log: Path) -> None:
    os.rename(log / POSES, log.parent.parent / "elsewhere")
    (log / POSES).symlink_to(log.parent.parent / "elsewhere")


def image(data: bytes) -> Callable[[Path], object]:
    return lambda log: sorted((log / FRONT).iterdir())[3].write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda log: [(log / POSES).unlink(), shutil.rmtree(log / "sensors")], "has no logs of Argoverse 2"),
        (lambda log: (log / POSES).unlink(), "has no city_SE3_egovehicle.feather, which the actions are derived from"),
        (lambda log: (log / POSES).write_bytes((log / POSES).read_bytes()[:500]), "feather cannot be read"),
        (lambda log: (log / POSES).write_text("not feather"), "feather cannot be read"),
        (linked_out, "is a link out of the data root"),
        (rewritten(qw=None), "has no column 'qw'"),
        (rewritten(tx_m=pa.array(["east"] * 252)), "the column 'tx_m' is string, expected numbers"),
        (rewritten(ty_m=numbers(7, None)), "row 7: ty_m is missing"),
        (rewritten(tz_m=numbers(9, np.inf)), "row 9: tz_m is inf, which is not a finite number"),
        (rewritten(qw=numbers(5, 3.0)), "is not a rotation, whose norm is 1"),
        (rewritten(timestamp_ns=pa.array(range(252, 0, -1), pa.int64())), "row 1: its time is before that of the row"),
        (rewritten(timestamp_ns=pa.array([5] * 252, pa.int64())), "has 1 poses at different times"),
        (rewritten(timestamp_ns=pa.array(range(0, 252 * 10**7, 10**7), pa.int64())), "1 s of images and motion"),
        (lambda log: [file.unlink() for file in (log / FRONT).iterdir()], "has no images (.jpg, .jpeg, .png)"),
        (lambda log: (log / FRONT / "first.jpg").write_bytes(b""), "first.jpg: its name is not a time in ns"),
        (image(b""), "is empty (0 bytes)"),
        (image(b"\xff\xd8\xff"), "is a damaged JPEG"),
        (lambda log: shutil.copytree(log, log.parent / "val" / log.name), "are the same log; remove one of them"),
    ],
)  # fmt: skip
def test_malformed(spoil: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    spoil(write_argoverse2(tmp_path / "raw" / "log", truth(frames=24), (8, 8)))
    message = refused("argoverse2", tmp_path)
    assert expected in message, message


def test_options(tmp_path: Path) -> None:
    write_argoverse2(tmp_path / "raw" / "log", truth(frames=24), (8, 8))
    for options, expected in (
        ({"camera": "ring_front_centre"}, "did you mean 'ring_front_center'?"),
        ({"hz": 50}, "has 20 frames per second, too few for --hz 50"),
        ({"split": "official"}, "--split official: train/ and val/ or test/ are needed; found: none of them"),
        ({"split": "random"}, "--split random: must be official or by-drive"),
    ):
        assert expected in refused("argoverse2", tmp_path, **options)
