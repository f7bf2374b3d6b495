"""Segments of openpilot: frames, states and times of a car with known motion, and malformed logs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from helpers.open_formats import train_and_evaluate
from helpers.openpilot import SIZE, Events, needs_schema, schema, write_segment
from helpers.recordings import Truth, columns, intervals, prepared, shown, wheel_degrees
from helpers.refusals import refused

pytestmark = needs_schema

TRUTH = Truth(80, hz=20.0, seed=2, start=900.0)


def recorded(tmp_path: Path, **more: object) -> Store:
    write_segment(tmp_path / "raw" / "00000012--a0b1c2d3e4--0", more.pop("truth", TRUTH), **more)
    return prepared("openpilot", tmp_path, size=SIZE)


@pytest.mark.parametrize(
    ("log", "camera"),
    [("rlog", "fcamera.hevc"), ("rlog.zst", "qcamera.ts"), ("rlog.bz2", "fcamera.hevc"), ("qlog.zst", "qcamera.ts")],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_frames_states_and_times(log: str, camera: str, backwards: bool, tmp_path: Path) -> None:
    truth = Truth(80, hz=20.0, seed=2, start=900.0, backwards=backwards)
    store = recorded(tmp_path, truth=truth, log=log, camera=camera)
    assert store.hz == 20.0 and not find_bad_rows(store)
    for drive in store.drives:
        rows = drive.start + np.arange(drive.frames - 1)
        values, actions = columns(store, rows), store.read_actions(rows)
        frames = values["video_frame"].astype(int)
        wrong = np.abs(shown(store, rows) - np.stack(truth.images(SIZE))[frames]).mean(axis=(1, 2, 3))
        assert wrong.max() < 12, "each row has its image"
        edges = intervals(truth, frames)
        assert np.abs(values["steering_angle"] - wheel_degrees(truth.mean(truth.wheel, edges))).max() < 0.3, "2 ms"
        expected = np.clip(-wheel_degrees(truth.mean(truth.wheel, edges)) / 90, -1, 1)
        assert np.abs(actions[:, 0] - expected).max() < 0.01, "positive to the right"
        assert np.abs(values["speed"] - truth.mean(np.abs(truth.speed), edges)).max() < 0.05
        slope = truth.mean(np.gradient(np.abs(truth.speed), truth.fine), edges)
        assert np.abs(actions[2:-2, 1] - np.clip(slope / 4, 0, 1)[2:-2]).max() < 0.03
        assert np.abs(actions[2:-2, 2] - np.clip(-slope / 8, 0, 1)[2:-2]).max() < 0.03
        assert (actions[:, 3] == (-1 if backwards else 1)).all()
        inside = frames < 70
        assert np.allclose(values["latitude"][inside], 37.5 + frames[inside] / 1024, atol=1e-6)
        assert np.array_equal(values["cruise"][frames < 35], np.zeros((frames < 35).sum()))
        assert np.array_equal(values["cruise"][frames > 45], np.ones((frames > 45).sum()))
    assert store.metadata["drives"][0]["made_from"] == {"images": camera, "steering": f"carState of {log}"}


def test_layouts_cameras_and_routes(tmp_path: Path) -> None:
    short = Truth(40, hz=20.0, start=900.0)
    for route in range(3):
        for k in range(2):
            nested = route == 1
            folder = f"a0b1|2024-0{route}/{k}" if nested else f"0000000{route}--aaaa--{k}"
            write_segment(tmp_path / "raw" / folder, short, "rlog", "fcamera.hevc", k)
            write_segment(tmp_path / "raw" / folder, short, "rlog", "qcamera.ts", k)
    store = prepared("openpilot", tmp_path, size=SIZE)
    names = {drive.name: drive.split for drive in store.drives}
    assert len(names) == 6 and "a0b1|2024-01/0" in names and "00000002--aaaa--1" in names
    for first in ("00000000--aaaa--", "a0b1|2024-01/", "00000002--aaaa--"):
        assert names[f"{first}0"] == names[f"{first}1"], "the segments of a route are in one split"
    assert store.metadata["drives"][0]["made_from"]["images"] == "fcamera.hevc"
    other = prepared("openpilot", tmp_path, size=SIZE, camera="qcamera", hz=10)
    assert other.hz == 10.0 and other.metadata["drives"][0]["made_from"]["images"] == "qcamera.ts"


def test_files_as_comma_connect_names_them(tmp_path: Path) -> None:
    """All files of a route in one folder, with the name of the segment in front."""
    for k in range(3):
        folder = write_segment(tmp_path / str(k), Truth(40, hz=20.0, seed=k, start=900.0), "rlog.bz2", segment=k)
        (tmp_path / "raw").mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.rename(tmp_path / "raw" / f"a0b1_2024-01-02--03-04-0{k}--11--{file.name}")
    store = prepared("openpilot", tmp_path, size=SIZE)
    assert sorted(drive.name for drive in store.drives) == [f"a0b1_2024-01-02--03-04-0{k}--11" for k in range(3)]
    assert sorted(drive.split for drive in store.drives) == ["test", "train", "val"]


def test_a_log_and_a_video_that_are_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The power was lost: what is there is used, up to the first of both ends."""
    folder = write_segment(tmp_path / "raw" / "b--0", TRUTH)
    data = (folder / "rlog").read_bytes()
    (folder / "rlog").write_bytes(data[: int(0.8 * len(data)) - 3])
    store = prepared("openpilot", tmp_path, size=SIZE)
    assert "b--0: rlog is cut off; the drive ends there." in capsys.readouterr().out
    frames = columns(store, np.arange(store.rows))["video_frame"]
    assert 50 < frames.max() < 72


def test_frames_of_the_segment_before_and_messages_of_newer_versions(tmp_path: Path) -> None:
    def more(found: Events) -> Events:
        for k in range(3):
            event = schema().Event.new_message(logMonoTime=round((899.5 + 0.05 * k) * 1e9))
            index = event.init("roadEncodeIdx")
            index.segmentNum, index.segmentId, index.timestampSof = 4, 1197 + k, round((899.5 + 0.05 * k) * 1e9)
            found.append((899.6, event))
        return found

    folder = write_segment(tmp_path / "raw" / "b--5", TRUTH, segment=5, edit=more)
    newer = bytearray(schema().Event.new_message(logMonoTime=1).to_bytes())
    where = newer.index((1).to_bytes(8, "little"), 8) + 8
    newer[where : where + 2] = (60000).to_bytes(2, "little")
    (folder / "rlog").write_bytes(bytes(newer) + (folder / "rlog").read_bytes())
    store = prepared("openpilot", tmp_path, size=SIZE)
    assert columns(store, np.arange(store.rows))["video_frame"].max() < 80 and store.rows > 60


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        truth = Truth(40, hz=20.0, seed=k, start=900.0)
        write_segment(tmp_path / "raw" / f"0000000{k}--aaaa--0", truth, "rlog", "qcamera.ts", size=(64, 64))
    store = prepared("openpilot", tmp_path, size=(64, 64))
    train_and_evaluate(Path(store.path), tiny_config, tmp_path)


Spoil = Callable[[Path], object]


def only(*kinds: str) -> Callable[[Events], Events]:
    return lambda found: [(time, event) for time, event in found if event.which() in kinds]


def at_one_time(found: Events) -> Events:
    for _, event in found:
        if event.which() == "roadEncodeIdx":
            event.roadEncodeIdx.timestampSof = 5
    return found


@pytest.mark.parametrize(
    ("edit", "spoil", "options", "expected"),
    [
        (only("deviceState"), None, {}, "rlog has 0 messages with the state of the car (carState)"),
        (only("carState"), None, {}, "has no increasing times of the frames of fcamera.hevc (road"),
        (only("roadEncodeIdx"), None, {}, "has 0 messages with the state of the car"),
        (at_one_time, None, {}, "has no increasing times of the frames of fcamera.hevc"),
        (None, lambda f: (f / "rlog").write_bytes(b"not a log of anything"), {}, "rlog is not a log of openpilot"),
        (None, lambda f: (f / "rlog").write_bytes(b""), {}, "has 0 messages with the state of the car"),
        (None, lambda f: (f / "rlog").rename(f / "rlog.bz2"), {}, "rlog.bz2 cannot be decompressed"),
        (None, lambda f: (f / "rlog").rename(f / "rlog.zst"), {}, "rlog.zst cannot be decompressed"),
        (None, lambda f: (f / "rlog").rename(f / "log"), {}, "has no segments of openpilot; a segment is rlog"),
        (None, lambda f: (f / "fcamera.hevc").unlink(), {}, "has no fcamera.hevc or qcamera.ts for rlog; all"),
        (None, lambda f: (f / "fcamera.hevc").write_bytes(b""), {}, "fcamera.hevc has 0 frames; a drive needs"),
        (None, None, {"camera": "ecamera"}, "has no ecamera.hevc for rlog; all segments need"),
        (None, None, {"camera": "front"}, "--camera front: there is no such camera"),
        (None, None, {"hz": 30}, "has 20 frames per second, too few for --hz 30"),
        (None, None, {"schema": "nowhere.capnp"}, "this file does not exist; name cereal/log.capnp"),
        (None, lambda f: (f.parent / "a.capnp").write_text("struct {"), {"schema": "a.capnp"}, "not the schema of op"),
    ],
)  # fmt: skip
def test_malformed(
    edit: Callable[[Events], Events] | None, spoil: Spoil | None, options: dict[str, object], expected: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = write_segment(tmp_path / "raw" / "b--0", Truth(10, hz=20.0, start=900.0), edit=edit, size=(16, 16))
    if spoil is not None:
        spoil(folder)
    monkeypatch.chdir(tmp_path / "raw")
    assert expected in refused("openpilot", tmp_path, **options)


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from daydrive.data.sources.openpilot import logs

    write_segment(tmp_path / "raw" / "b--0", Truth(10, hz=20.0, start=900.0), size=(16, 16))
    logs._event_type.cache_clear()
    monkeypatch.setitem(sys.modules, "capnp", None)
    assert "pip install 'daydrive[openpilot]'" in refused("openpilot", tmp_path)
