"""BDD100K: store contents of clips with known motion, and errors for malformed data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.ego_formats import check_drive, write_bdd100k
from helpers.open_formats import train_and_evaluate
from helpers.recordings import Truth, columns, prepared
from helpers.refusals import refused

SIZE = (48, 64)
WHEELBASE = 2.8
CLIP = "0000f77c-6257be58"


def truth(seed: int = 0, frames: int = 61) -> Truth:
    return Truth(frames, hz=10.0, seed=seed, start=1503833985.0)


@pytest.mark.parametrize("android", [False, True])
def test_images_motion_and_official_splits(android: bool, tmp_path: Path) -> None:
    tilted = (0.8, 0.0, 0.6)
    for k in range(4):
        write_bdd100k(tmp_path / "raw", f"clip-{k}", truth(k), "train" if k < 3 else "val", tilted, android)
    store = prepared("bdd100k", tmp_path, size=SIZE)
    assert store.hz == 10.0 and sorted(d.split for d in store.drives) == ["test", "train", "train", "val"]
    for drive in store.drives:
        expected = truth(int(drive.name[-1]))
        values = check_drive(store, drive, expected, WHEELBASE, coarse=2.5)
        assert drive.frames == 61 and np.allclose(values["video_time"], np.arange(61) / 10, atol=2e-3)
        north = (values["latitude"] - 40.6) * 111_195
        assert np.abs(north - expected.at(expected.position[:, 0])).max() < 1.0
    assert {d["made_from"]["steering"] for d in store.metadata["drives"]} == {"speed, gyro"}


@pytest.mark.parametrize(("turned", "changes", "made_from"), [
    (-1.0, {}, "speed, gyro"),
    (57.3, {}, "speed, course"),
    (1.0, {"gyro": None}, "speed, course"),
    (1.0, {"accelerometer": []}, "speed, course"),
])  # fmt: skip
def test_the_course_decides_about_the_gyroscope(
    turned: float, changes: dict[str, Any], made_from: str, tmp_path: Path
) -> None:
    expected = truth(2, 101)
    write_bdd100k(tmp_path / "raw", CLIP, expected, turned=turned, **changes)
    store = prepared("bdd100k", tmp_path, size=SIZE)
    assert {d["made_from"]["steering"] for d in store.metadata["drives"]} == {made_from}
    drive = store.drives[0]
    values = columns(store, drive.start + np.arange(drive.frames))
    truly = expected.at(expected.yaw_rate)[: drive.frames]
    assert np.corrcoef(values["yaw_rate"], truly)[0, 1] > 0.9, "positive to the right"


def test_a_gyroscope_that_contradicts_the_course_is_not_used(tmp_path: Path) -> None:
    file = write_bdd100k(tmp_path / "raw", CLIP, truth())
    content = json.loads(file.read_text())
    noise = np.random.default_rng(0).normal(size=len(content["gyro"]))
    for reading, value in zip(content["gyro"], noise.tolist(), strict=True):
        reading["x"] = value
    file.write_text(json.dumps(content))
    store = prepared("bdd100k", tmp_path, size=(8, 8))
    assert store.metadata["drives"][0]["made_from"]["steering"] == "speed, course"


def test_fixes_without_a_speed_and_gps_alone(tmp_path: Path) -> None:
    file = write_bdd100k(tmp_path / "raw", CLIP, truth())
    content = json.loads(file.read_text())
    content["locations"][3] |= {"speed": -1.0, "course": -1.0}
    file.write_text(json.dumps(content))
    values = columns(store := prepared("bdd100k", tmp_path, size=(8, 8)), np.arange(store.drives[0].frames))
    assert values["speed"].min() > 5 and np.abs(np.diff(values["speed"])).max() < 1
    file.write_text(json.dumps({**content, "locations": []}))
    assert prepared("bdd100k", tmp_path, size=(8, 8)).rows == store.rows


def test_clips_that_cannot_be_used_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    write_bdd100k(raw, "a", truth())
    write_bdd100k(raw, "b", truth()).unlink()
    write_bdd100k(raw, "c", truth(), timelapse=True)
    write_bdd100k(raw, "d", truth(), locations=[], gps=None)
    (raw / "videos/train/._a.mov").write_bytes(b"mac")
    (raw / "labels").mkdir()
    (raw / "labels/b.json").write_text("{}")
    store = prepared("bdd100k", tmp_path, size=(8, 8))
    said = capsys.readouterr().out
    assert "3 of 4 videos are skipped: 1 without an info JSON, 1 without GPS, 1 time lapse." in said
    assert {d.name.split(".")[0] for d in store.drives} == {"a"}


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        write_bdd100k(tmp_path / "raw", f"clip{k}", truth(k, 24))
    train_and_evaluate(prepared("bdd100k", tmp_path, size=(64, 64)).path, tiny_config, tmp_path)


def changed(**changes: Any) -> Callable[[Path], object]:
    return lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def reading(name: str, number: int, **changes: Any) -> Callable[[Path], object]:
    def apply(file: Path) -> None:
        content = json.loads(file.read_text())
        content[name][number] |= changes
        file.write_text(json.dumps(content))

    return apply


def movie(edit: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda file: edit(file.parents[3] / f"videos/train/{CLIP}.mov")


def linked_out(file: Path) -> None:
    os.rename(file, file.parents[4] / "elsewhere")
    file.symlink_to(file.parents[4] / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (movie(lambda video: video.unlink()), "has no videos (.mp4, .mkv, .avi, .mov)"),
        (movie(lambda video: video.write_bytes(b"")), ".mov cannot be read"),
        (movie(lambda video: video.write_bytes(video.read_bytes()[:400])), ".mov cannot be read"),
        (lambda file: file.unlink(), "has no video with an info JSON that has GPS readings"),
        (lambda file: file.write_text("{"), ".json: not JSON"),
        (lambda file: file.write_text("[]"), ".json: a list, expected a JSON object"),
        (changed(startTime=None), "startTime is 'None', expected the video's start in ms since 1970"),
        (changed(startTime=1503833), "has no 1 s of images and motion"),
        (changed(locations="none"), "locations is not a list of readings"),
        (changed(locations=[3, 4]), "locations, reading 0: timestamp is 'None', expected a number"),
        (reading("locations", 2, speed="fast"), "locations, reading 2: speed is 'fast', expected a number"),
        (reading("locations", 1, latitude=float("nan")), "locations, reading 1: latitude is 'nan', expected a number"),
        (reading("gyro", 7, x=None), "gyro, reading 7: x is 'None', expected a number"),
        (reading("gyro", 9, timestamp=True), "gyro, reading 9: timestamp is 'True', expected a number"),
        (reading("accelerometer", 4, z=[]), "accelerometer, reading 4: z is '[]', expected a number"),
        (changed(gyro=[], locations=[]), "has neither a course in its locations nor gyro and accelerometer"),
        (linked_out, "is a link out of the data root"),
    ],
)  # fmt: skip
def test_malformed(spoil: Callable[[Path], object], expected: str, tmp_path: Path) -> None:
    spoil(write_bdd100k(tmp_path / "raw", CLIP, truth(frames=24), size=(16, 16)))
    message = refused("bdd100k", tmp_path)
    assert expected in message, message


def test_one_speed_and_the_same_clip_twice(tmp_path: Path) -> None:
    file = write_bdd100k(tmp_path / "raw", CLIP, truth(frames=24), size=(16, 16))
    content = json.loads(file.read_text())
    for fix in content["locations"][1:]:
        fix["speed"] = -1.0
    file.write_text(json.dumps(content))
    assert "locations has 1 fixes with a speed; at least 2 are needed" in refused("bdd100k", tmp_path)
    write_bdd100k(tmp_path / "raw", CLIP, truth(frames=24), "val", size=(16, 16))
    assert "are the same clip; remove one of them" in refused("bdd100k", tmp_path)
