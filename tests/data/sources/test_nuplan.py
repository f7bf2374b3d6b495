"""nuPlan: store contents of logs with known motion, and errors for malformed data."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from helpers.ego_formats import check_drive, write_nuplan
from helpers.open_formats import train_and_evaluate
from helpers.recordings import Truth, prepared, shown
from helpers.refusals import refused

SIZE = (24, 32)
WHEELBASE = 3.089
NAME = "2021.05.12.22.00.38_veh-35_01008_01518"


def truth(seed: int = 0, frames: int = 40) -> Truth:
    return Truth(frames, hz=10.0, seed=seed, start=1.62e9)


def log_name(day: int, start: int) -> str:
    return f"2021.05.{day}.22.00.38_veh-35_{start:05d}_{start + 99:05d}"


def test_images_motion_and_sessions(tmp_path: Path) -> None:
    raw = tmp_path / "raw" / "nuplan-v1.1"
    starts = {log_name(12, 0): 0, log_name(12, 100): 1, log_name(13, 200): 2, log_name(14, 300): 3}
    for name, seed in starts.items():
        write_nuplan(raw, name, truth(seed))
    store = prepared("nuplan", tmp_path, size=SIZE)
    assert store.hz == 10.0 and {drive.name for drive in store.drives} == set(starts)
    for drive in store.drives:
        values = check_drive(store, drive, truth(starts[drive.name]), WHEELBASE)
        assert drive.frames == 40 and np.array_equal(values["timestamp"], np.round(truth().times * 1e6))
    splits = {drive.name: drive.split for drive in store.drives}
    assert splits[log_name(12, 0)] == splits[log_name(12, 100)], "a session is in one split"
    assert len(set(splits.values())) == 3


def test_logs_without_images_twice_and_with_a_lost_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    file = write_nuplan(raw, NAME, truth())
    (raw / "splits/trainval").mkdir()
    shutil.copy(file, raw / "splits/trainval")
    write_nuplan(raw, log_name(13, 5), truth(), part="splits/trainval", images=False)
    before = sorted(os.listdir(raw / "splits/mini")), file.read_bytes()
    (raw / "sensor_blobs" / NAME / "CAM_F0" / f"{20 * 7919 % 65536:016x}.jpg").unlink()
    store = prepared("nuplan", tmp_path, size=SIZE)
    said = capsys.readouterr().out
    assert "1 of 2 logs are skipped: sensor_blobs/ has no images of CAM_F0 of them." in said
    assert f"left out: 1 whose image does not exist, {NAME}.db" in said
    assert {d.name for d in store.drives} == {f"{NAME}.{part}" for part in ("train", "val", "test")}, "no gap"
    assert (sorted(os.listdir(raw / "splits/mini")), file.read_bytes()) == before, "the database is only read"


def test_another_camera_and_rate(tmp_path: Path) -> None:
    write_nuplan(tmp_path / "raw", NAME, truth())
    store = prepared("nuplan", tmp_path, size=SIZE, camera="CAM_B0", hz=5)
    assert store.hz == 5.0 and store.metadata["camera"] == "CAM_B0"
    first = np.arange(store.drives[0].frames)
    assert np.abs(255 - shown(store, first) - np.stack(truth().images(SIZE))[2 * first]).mean() < 8


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        write_nuplan(tmp_path / "raw", log_name(12 + k, 0), truth(k, 24))
    train_and_evaluate(prepared("nuplan", tmp_path, size=(64, 64)).path, tiny_config, tmp_path)


def sql(*statements: str) -> Callable[[Path], object]:
    """A function that changes the database."""

    def apply(root: Path) -> None:
        with closing(sqlite3.connect(root / f"splits/mini/{NAME}.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return apply


def database(edit: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda root: edit(root / f"splits/mini/{NAME}.db")


def image(data: bytes) -> Callable[[Path], object]:
    return lambda root: (root / "sensor_blobs" / NAME / "CAM_F0" / f"{3 * 7919:016x}.jpg").write_bytes(data)


def linked_out(root: Path) -> None:
    os.rename(root / "sensor_blobs", root.parent / "elsewhere")
    (root / "sensor_blobs").symlink_to(root.parent / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (database(lambda file: os.rename(file, file.with_suffix(".sqlite"))), "has no nuPlan logs (*.db)"),
        (database(lambda file: file.write_bytes(b"")), "is not a nuPlan log (no such table: camera)"),
        (database(lambda file: file.write_text("text" * 999)), "is not a nuPlan log (file is not a database)"),
        (database(lambda file: file.write_bytes(file.read_bytes()[:20000])), "is not a nuPlan log (database disk"),
        (sql("DROP TABLE image"), "is not a nuPlan log (no such table: image)"),
        (sql("ALTER TABLE ego_pose DROP COLUMN qw"), "is not a nuPlan log (no such column: qw)"),
        (sql("DELETE FROM ego_pose"), "table ego_pose is empty; the actions are derived from it"),
        (sql("UPDATE ego_pose SET x = NULL WHERE rowid = 9"), "contains a number that is missing or not finite"),
        (sql("UPDATE ego_pose SET y = 'north' WHERE rowid = 9"), "timestamp and x to qz must be numbers"),
        (sql("UPDATE ego_pose SET qw = 5"), "is not a rotation, whose norm is 1"),
        (sql("UPDATE ego_pose SET timestamp = timestamp + 3600000000"), "has no 1 s of images and motion"),
        (sql("UPDATE image SET filename_jpg = x'00' WHERE rowid = 30"), "are not a file name and a time in µs"),
        (sql("UPDATE image SET timestamp = 7 WHERE rowid > 44"), "CAM_F0 has two images at 7"),
        (sql("UPDATE image SET filename_jpg = '../../../elsewhere/a.jpg'"), "is a link out of the data root"),
        (sql("UPDATE camera SET channel = 'CAM_L0' WHERE channel = 'CAM_F0'"), "--camera CAM_F0: "),
        (lambda root: shutil.rmtree(root / "sensor_blobs"), "has no images of CAM_F0 of the 1 logs in"),
        (image(b""), "is empty (0 bytes)"),
        (image(b"\xff\xd8\xff"), "is a damaged JPEG"),
        (linked_out, "is a link out of the data root"),
    ],
)  # fmt: skip
def test_malformed(spoil: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    write_nuplan(tmp_path / "raw", NAME, truth(frames=24), (8, 8))
    spoil(tmp_path / "raw")
    message = refused("nuplan", tmp_path)
    assert expected in message, message
