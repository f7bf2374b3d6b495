"""Bags of ROS 1 and ROS 2: images, commands and clocks of a car with known motion."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from helpers.open_formats import train_and_evaluate
from helpers.recordings import Truth, columns, intervals, prepared, shown
from helpers.ros import COMMANDS, CUSTOM, IMAGES, KINDS, SIZE, Types, Written, write_bag

TRUTH = Truth(60, hz=10.0, seed=2, start=1.7e9)


def recorded(
    tmp_path: Path, kind: str = "bag", image: str = "jpeg", command: str = "ackermann", **more: object
) -> Store:
    options = {name: more.pop(name) for name in ("edit", "truth") if name in more}
    write_bag(tmp_path / "raw" / "a", options.pop("truth", TRUTH), kind, image, command, **options)
    return prepared("rosbag", tmp_path, size=SIZE, **more)


def check_images(store: Store, truth: Truth = TRUTH, limit: float = 6.0) -> np.ndarray:
    """Compares the images with those generated for their stamps; the frames' numbers."""
    rows = np.arange(store.rows)
    found = np.round((columns(store, rows)["stamp"] - truth.times[0]) * truth.hz).astype(int)
    assert np.allclose(columns(store, rows)["stamp"], truth.times[found], atol=1e-6)
    wrong = np.abs(shown(store, rows) - np.stack(truth.images(SIZE))[found]).mean(axis=(1, 2, 3))
    assert wrong.max() < limit, "each row has the image of its stamp"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_containers(kind: str, tmp_path: Path) -> None:
    store = recorded(tmp_path, kind)
    assert store.hz == 10.0 and not find_bad_rows(store) and sum(d.frames for d in store.drives) > 40
    check_images(store)
    for drive in store.drives:
        rows = drive.start + np.arange(drive.frames - 1)
        found = np.round((columns(store, rows)["stamp"] - TRUTH.times[0]) * 10).astype(int)
        edges = TRUTH.times[np.append(found, found[-1] + 1)]
        actions, values = store.read_actions(rows), columns(store, rows)
        assert np.abs(actions[:, 0] - TRUTH.mean(TRUTH.wheel, edges) / 0.5).max() < 0.015, "positive to the right"
        assert np.abs(values["recorded_steering"] + TRUTH.mean(TRUTH.wheel, edges)).max() < 0.008
        assert np.abs(values["speed"] - TRUTH.mean(TRUTH.speed, edges)).max() < 0.1 and (actions[:, 3] == 1).all()
        slope = TRUTH.mean(np.gradient(TRUTH.speed, TRUTH.fine), edges)
        pedals = np.clip(slope / 4, 0, 1) - np.clip(-slope / 8, 0, 1)
        assert np.corrcoef(actions[:, 1] - actions[:, 2], pedals)[0, 1] > 0.98
    assert store.metadata["drives"][0]["made_from"]["steering"].startswith(f"{COMMANDS}.drive.steering_angle, rad")
    assert store.metadata["drives"][0]["made_from"]["images"] == IMAGES


@pytest.mark.parametrize(
    "image", ["rgb8", "bgr8", "bgra8", "bayer_rggb8", "mono8", "png", "h264", "hevc"]
)  # fmt: skip
def test_image_formats(image: str, tmp_path: Path) -> None:
    if image == "mono8":
        store = recorded(tmp_path, "sqlite3", image)
        gray = shown(store, np.arange(4))
        assert np.abs(gray - np.stack(TRUTH.images(SIZE))[:4][..., 1:2]).mean() < 4
        return
    store = recorded(tmp_path, "bag" if image == "png" else "mcap", image)
    check_images(store, limit=14.0 if image in ("bayer_rggb8", "h264", "hevc") else 6.0)


@pytest.mark.parametrize("command", ["twist", "odometry", "autoware"])
def test_command_types(command: str, tmp_path: Path) -> None:
    store = recorded(tmp_path, "mcap", "jpeg", command, wheelbase=2.71)
    drive = store.drives[0]
    rows = drive.start + np.arange(drive.frames - 1)
    edges = intervals(TRUTH, np.arange(drive.frames - 1))
    actions, values = store.read_actions(rows), columns(store, rows)
    assert np.abs(actions[3:, 0] - TRUTH.mean(TRUTH.wheel, edges)[3:] / 0.5).max() < 0.06, "positive to the right"
    slope = TRUTH.mean(np.gradient(TRUTH.speed, TRUTH.fine), edges)
    assert np.abs(actions[3:, 1] - np.clip(slope / 4, 0, 1)[3:]).max() < 0.05
    assert np.abs(values["speed"][3:] - TRUTH.mean(TRUTH.speed, edges)[3:]).max() < 0.2
    assert np.isnan(values["yaw_rate"]).all() == (command == "autoware") and (actions[:, 3] == 1).all()


def test_named_fields_of_a_custom_message(tmp_path: Path) -> None:
    backwards = Truth(60, hz=10.0, seed=2, start=1.7e9, backwards=True)
    mapping = {
        "steering": "/drive.wheel_degrees", "steering_scale": -1 / 28.6479, "throttle": "drive.pedals.0",
        "brake": "/drive.pedals.1", "gear": "/drive.gear", "speed": "/drive.kmh", "speed_scale": 1 / 3.6,
    }  # fmt: skip
    store = recorded(tmp_path, "bag", "jpeg", "custom", truth=backwards, **mapping)
    drive = store.drives[0]
    rows = drive.start + np.arange(drive.frames - 1)
    edges = intervals(backwards, np.arange(drive.frames - 1))
    actions, values = store.read_actions(rows), columns(store, rows)
    assert np.abs(actions[:, 0] - backwards.mean(backwards.wheel, edges) / 0.5).max() < 0.015
    assert np.abs(values["speed"] - backwards.mean(backwards.speed, edges)).max() < 0.1
    slope = backwards.mean(np.gradient(backwards.speed, backwards.fine), edges)
    assert np.abs(actions[:, 1] - np.maximum(slope, 0) / 4).max() < 0.01 and (actions[:, 3] == -1).all()
    assert store.metadata["drives"][0]["made_from"]["brake"] == "/drive.pedals.1"


def without_stamps(messages: list[Written], types: Types) -> list[Written]:
    for _, _, _, content in messages:
        content.header.stamp = types.time(0.0)
    return messages


def converted_later(messages: list[Written], types: Types) -> list[Written]:
    """The clock of the bag is a day ahead of the stamps."""
    return [(time + 86400.0, *rest) for time, *rest in messages]


def test_clock_of_the_bag_without_stamps(tmp_path: Path) -> None:
    store = recorded(tmp_path, "sqlite3", edit=without_stamps)
    late = Truth(60, hz=10.0, seed=2, start=1.7e9)
    stamps = columns(store, np.arange(10))["stamp"]
    assert np.allclose(stamps, late.times[:10] + 0.02, atol=1e-5)


def test_commands_without_stamps_follow_the_images(tmp_path: Path) -> None:
    store = recorded(tmp_path, "mcap", command="twist", edit=converted_later, wheelbase=2.71)
    rows = np.arange(3, store.drives[0].frames - 1)
    steering = store.read_actions(rows)[:, 0]
    expected = TRUTH.mean(TRUTH.wheel, TRUTH.times[np.append(rows, rows[-1] + 1)]) / 0.5
    assert np.corrcoef(steering, expected)[0, 1] > 0.98


def test_frames_without_commands_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def gap(messages: list[Written], types: Types) -> list[Written]:
        return [m for m in messages if m[1] == IMAGES or not 2.0 < m[0] - TRUTH.times[0] < 4.0]

    store = recorded(tmp_path, "bag", edit=gap)
    assert "without a command in the 0.5 s before" in capsys.readouterr().out
    times = columns(store, np.arange(store.rows))["stamp"] - TRUTH.times[0]
    assert not ((times > 2.6) & (times < 3.9)).any() and check_images(store).max() > 50


def test_video_that_begins_without_a_key_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def late(messages: list[Written], types: Types) -> list[Written]:
        return messages[8:]

    store = recorded(tmp_path, "mcap", "h264", edit=late)
    assert "left out: 7 not later than the one before, or video before its first key frame" in (capsys.readouterr().out)
    assert check_images(store, limit=14.0)[0] == 15


def test_definitions_from_a_folder_and_of_known_types(tmp_path: Path) -> None:
    """Bags of ROS 2 before Iron contain no definitions."""
    for name, command in (("a", "ackermann"), ("b", "custom")):
        bag = write_bag(tmp_path / name / "bag", TRUTH, "sqlite3", "jpeg", command)
        with sqlite3.connect(next(bag.glob("*.db3"))) as database:
            database.execute("DELETE FROM message_definitions")
    assert prepared("rosbag", tmp_path, tmp_path / "a", SIZE).rows > 40
    definition = tmp_path / "definitions/car_msgs/msg/Pedals.msg"
    definition.parent.mkdir(parents=True)
    definition.write_text("std_msgs/Header header\nfloat32 wheel_degrees\nfloat32[2] pedals\nint8 gear\nfloat32 kmh\n")
    options = {
        "steering": "/drive.wheel_degrees",
        "steering_scale": -0.03,
        "definitions": str(tmp_path / "definitions"),
    }
    assert prepared("rosbag", tmp_path, tmp_path / "b", SIZE, **options).rows > 40


def test_types_that_are_not_understood_do_not_matter_elsewhere(tmp_path: Path) -> None:
    def more(messages: list[Written], types: Types) -> list[Written]:
        return [*messages, (TRUTH.times[3], "/other", CUSTOM, types.make(CUSTOM, TRUTH.times[3]))]

    bag = write_bag(tmp_path / "raw" / "a", TRUTH, "sqlite3", edit=more)
    with sqlite3.connect(next(bag.glob("*.db3"))) as database:
        database.execute("UPDATE message_definitions SET encoded_message_definition = '?' WHERE topic_type LIKE 'car%'")
    assert prepared("rosbag", tmp_path, size=SIZE).rows > 40


def test_short_names_of_types(tmp_path: Path) -> None:
    """Some writers leave out the `msg` in `sensor_msgs/msg/CompressedImage`."""
    bag = write_bag(tmp_path / "raw" / "a", TRUTH, "sqlite3")
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("/msg/", "/"))
    with sqlite3.connect(next(bag.glob("*.db3"))) as database:
        database.execute("UPDATE topics SET type = replace(type, '/msg/', '/')")
        database.execute("UPDATE message_definitions SET topic_type = replace(topic_type, '/msg/', '/')")
    check_images(prepared("rosbag", tmp_path, size=SIZE))


def test_several_bags_and_cameras(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def two(messages: list[Written], types: Types) -> list[Written]:
        again = [
            (time + 1e-4, "/rear/image", kind, content) for time, topic, kind, content in messages if topic == IMAGES
        ]
        return [*messages, *again]

    for k, kind in enumerate(("bag", "mcap", "file")):
        write_bag(tmp_path / "raw" / f"day{k}" / "drive", Truth(30, hz=10.0, seed=k, start=1.7e9), kind, edit=two)
    (tmp_path / "raw/day0/._drive.bag").write_bytes(b"Mac")
    store = prepared("rosbag", tmp_path, size=SIZE)
    assert sorted(d.name for d in store.drives) == ["day0/drive", "day1/drive", "day2/drive"]
    assert sorted(d.split for d in store.drives) == ["test", "train", "val"]
    assert f"using the camera {IMAGES}; available for --camera: {IMAGES}, /rear/image" in capsys.readouterr().out
    assert prepared("rosbag", tmp_path, size=SIZE, camera="rear/image", hz=5).hz == 5.0


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k, kind in enumerate(("bag", "sqlite3", "mcap")):
        write_bag(tmp_path / "raw" / f"day{k}", Truth(30, hz=10.0, seed=k, start=1.7e9), kind, size=(64, 64))
    store = prepared("rosbag", tmp_path, size=(64, 64))
    train_and_evaluate(Path(store.path), tiny_config, tmp_path)
