"""Malformed bags, and options that do not fit them: a one-line error, and no files left behind."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.recordings import Truth
from helpers.refusals import refused
from helpers.ros import COMMANDS, CUSTOM, IMAGES, Types, Written, write_bag

TRUTH = Truth(12, hz=10.0, start=1.7e9)
Edit = Callable[[list[Written], Types], list[Written]]
Spoil = Callable[[Path], object]


def truncated(share: float) -> Spoil:
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


def moved_out(file: Path) -> None:
    shutil.move(file, file.parent.parent / "elsewhere.bag")
    file.symlink_to(file.parent.parent / "elsewhere.bag")


@pytest.mark.parametrize(
    ("kind", "spoil", "expected"),
    [
        ("bag", truncated(0.5), "a.bag cannot be read"),
        ("bag", truncated(0.0), "a.bag cannot be read"),
        ("bag", lambda file: file.write_text("version https://git-lfs.github.com/spec/v1"), "a.bag cannot be read"),
        ("bag", moved_out, "a.bag is a link out of the data root"),
        ("bag", lambda file: file.rename(file.with_suffix(".txt")), "has no bags (.bag, .mcap, .db3, or a folder with"),
        ("file", truncated(0.5), "a.mcap cannot be read"),
        ("file", lambda file: file.write_bytes(b""), "a.mcap cannot be read"),
        ("mcap", lambda folder: (folder / "metadata.yaml").write_text("no: metadata"), "a cannot be read"),
        ("mcap", lambda folder: (folder / "metadata.yaml").write_text("\t{"), "a cannot be read"),
        ("mcap", lambda folder: (folder / "a.mcap").unlink(), "a cannot be read"),
        ("sqlite3", lambda folder: (folder / "a.db3").write_bytes(b"SQLite format 3"), "a cannot be read"),
        ("sqlite3", lambda folder: truncated(0.4)(folder / "a.db3"), "a cannot be read"),
    ],
)  # fmt: skip
def test_damaged_files(kind: str, spoil: Spoil, expected: str, tmp_path: Path) -> None:
    spoil(write_bag(tmp_path / "raw" / "a", TRUTH, kind))
    assert expected in refused("rosbag", tmp_path)


def only(topic: str) -> Edit:
    return lambda messages, types: [message for message in messages if message[1] == topic]


def content(topic: str, number: int, **fields: Any) -> Edit:
    """Changes fields of a message of a topic; a field of a field is named by `__`."""

    def edit(messages: list[Written], types: Types) -> list[Written]:
        found = [message for message in messages if message[1] == topic][number][3]
        for name, value in fields.items():
            *path, last = name.split("__")
            owner = found
            for part in path:
                owner = getattr(owner, part)
            object.__setattr__(owner, last, value)
        return messages

    return edit


def first_only(topic: str) -> Edit:
    def edit(messages: list[Written], types: Types) -> list[Written]:
        first = next(message for message in messages if message[1] == topic)
        return [message for message in messages if message[1] != topic or message is first]

    return edit


def twice(messages: list[Written], types: Types) -> list[Written]:
    return [*messages, *((time, "/other", kind, found) for time, topic, kind, found in messages if topic == COMMANDS)]


def later(messages: list[Written], types: Types) -> list[Written]:
    for _, topic, _, found in messages:
        if topic == COMMANDS:
            found.header.stamp = types.time(found.header.stamp.sec + 500.0)
    return messages


def joystick(messages: list[Written], types: Types) -> list[Written]:
    name = "sensor_msgs/msg/Joy"
    axes = {"axes": np.zeros(2, np.float32), "buttons": np.zeros(0, np.int32)}
    return [*messages, *((time, "/joy", name, types.make(name, time, **axes)) for time in TRUTH.times)]


GARBAGE = np.frombuffer(b"\x00\x00\x01\x65" + bytes(range(200)), np.uint8)
FIELD = {"steering": "/drive.wheel_degrees"}


@pytest.mark.parametrize(
    ("image", "command", "edit", "options", "expected"),
    [
        ("jpeg", "ackermann", only(COMMANDS), {}, "a.bag has no topic with images; its topics: /drive"),
        ("jpeg", "none", None, {}, "has no topic with commands of a known type (Ackermann, Autoware, Twist, Odometry)"),
        ("jpeg", "ackermann", first_only(IMAGES), {}, "a.bag has 1 images on /front/image; a drive needs at least 2"),
        ("jpeg", "ackermann", first_only(COMMANDS), {}, "has 1 messages on /drive, too few for a drive"),
        ("jpeg", "ackermann", twice, {}, "has several topics with commands; choose one with --set commands=TOPIC: /dr"),
        ("jpeg", "ackermann", later, {}, "no image has a command"),
        ("jpeg", "ackermann", None, {"camera": "/front/images"}, "did you mean '/front/image'?"),
        ("jpeg", "ackermann", None, {"commands": "/drives"}, "did you mean '/drive'?"),
        ("jpeg", "ackermann", None, {"wheelbase": 0}, "--set wheelbase must be at least 0.01, not 0"),
        ("jpeg", "ackermann", None, {"hz": 30}, "a.bag has 10 frames per second, too few for --hz 30"),
        ("jpeg", "custom", None, {"steering": "/drive.wheel_degree"}, "did you mean '/drive.wheel_degrees'?"),
        ("jpeg", "custom", None, FIELD, "of the steering; set a factor to that range with --set steering_scale=F"),
        ("jpeg", "custom", None, {"steering_scale": 2}, "has no topic with commands of a known type"),
        ("jpeg", "custom", joystick, {"steering": "/joy.axes.2"}, "message 1: axes.2 does not exist, there are 2"),
        ("jpeg", "ackermann", content(COMMANDS, 5, drive__speed=float("nan")), {}, "message 6: drive.speed is nan"),
        ("jpeg", "ackermann", content(IMAGES, 5, data=GARBAGE), {}, "message 6: jpeg is not a supported image"),
        ("jpeg", "ackermann", content(IMAGES, 5, data=GARBAGE[:0]), {}, "message 6: the image jpeg is empty"),
        ("rgb8", "ackermann", content(IMAGES, 5, encoding="32FC1"), {}, "the image encoding '32fc1' is not supported"),
        ("rgb8", "ackermann", content(IMAGES, 5, height=60000), {}, "which do not fit its 60000 rows of 32 pixels"),
        ("rgb8", "ackermann", content(IMAGES, 5, step=7), {}, "not fit its 24 rows of 32 pixels in rgb8 and 7 bytes"),
        ("rgb8", "ackermann", content(IMAGES, 5, width=0), {}, "which do not fit its 24 rows of 0 pixels"),
        ("h264", "ackermann", content(IMAGES, 0, format="mpeg1"), {}, "the video format 'mpeg1' is not supported"),
        ("h264", "ackermann", content(IMAGES, 0, data=GARBAGE), {}, "cannot be decoded"),
        ("jpeg", "ackermann", None, {"definitions": "."}, "--set definitions=.: there are no message definitions"),
    ],
)  # fmt: skip
def test_contents(
    image: str, command: str, edit: Edit | None, options: dict[str, object], expected: str, tmp_path: Path,
    here: Path,
) -> None:  # fmt: skip
    write_bag(tmp_path / "raw" / "a", TRUTH, "bag", image, command, edit)
    assert expected in refused("rosbag", tmp_path, **options)


def test_definitions_that_are_wrong(tmp_path: Path) -> None:
    write_bag(tmp_path / "raw" / "a", TRUTH, "sqlite3", "jpeg", "custom")
    file = tmp_path / "definitions/car_msgs/msg/Pedals.msg"
    file.parent.mkdir(parents=True)
    file.write_text("float32 wheel_degrees\nfloat32[")
    message = refused("rosbag", tmp_path, definitions=str(tmp_path / "definitions"), **FIELD)
    assert "the definition of car_msgs/msg/Pedals is not valid" in message


def test_a_type_without_a_definition(tmp_path: Path) -> None:
    def more(messages: list[Written], types: Types) -> list[Written]:
        return [*messages, *((time, "/other", CUSTOM, types.make(CUSTOM, time)) for time in TRUTH.times)]

    bag = write_bag(tmp_path / "raw" / "a", TRUTH, "sqlite3", edit=more)
    with sqlite3.connect(next(bag.glob("*.db3"))) as database:
        database.execute("DELETE FROM message_definitions")
    message = refused("rosbag", tmp_path, steering="/other.wheel_degrees")
    assert "has no column '/other.wheel_degrees'" in message


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bag(tmp_path / "raw" / "a", TRUTH)
    monkeypatch.setitem(sys.modules, "rosbags", None)
    assert "pip install 'daydrive[rosbag]'" in refused("rosbag", tmp_path)
