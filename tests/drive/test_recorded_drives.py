"""Recordings: a drive folder that can be prepared, a video, and an action log that repeats the drive to the byte."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from daydrive import cli
from daydrive.data.images import encode
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.data.video import frame_times
from daydrive.drive.engine import Command, DriveEngine
from daydrive.drive.launch import replay_file
from daydrive.drive.recording import Recorded
from daydrive.drive.scenario import Scenario, load_scenario
from daydrive.errors import UserError
from helpers.driving import action, road_scenario

CPU = torch.device("cpu")


@pytest.fixture
def model_scenario(trained: Path, road_store: Path, tmp_path: Path) -> Scenario:
    return load_scenario([trained], road_store, tmp_path / "recorded", device=CPU)


def started(scenario: Scenario) -> tuple[DriveEngine, list[Recorded]]:
    engine = DriveEngine(scenario)
    engine.start(0)
    return engine, []


def drive(engine: DriveEngine, steps: range) -> list[np.ndarray]:
    """Take steps with different actions; the images before each."""
    images = []
    for k in steps:
        images.append(engine.simulation.images[0])
        engine.advance(Command(action(np.sin(k) / 2, 0.1 * (k % 5))))
        if k % 3 == 0:
            engine.amend(Command(action(np.cos(k) / 2, 0.3)))
    return images


def finish(engine: DriveEngine) -> None:
    recording = engine.stop_recording()
    assert recording is not None
    recording.join()


def test_recorded_drives_become_a_store_with_their_actions(tmp_path: Path) -> None:
    engine, recorded = started(road_scenario(tmp_path / "recorded"))
    images, actions = [], []
    for k in range(3):
        engine.start(k)
        drive(engine, range(3))  # before the recording
        engine.start_recording(f"drive-{k}", recorded.append)
        images.append(drive(engine, range(12)))
        actions.append(engine.simulation.path.actions[3:15])
        finish(engine)
    assert [(found.frames, found.error) for found in recorded] == [(12, None)] * 3
    store = Store.open(prepare("folder", tmp_path / "recorded", tmp_path / "store", (64, 64), workers=1))
    assert sorted(store.drives.names) == ["drive-0", "drive-1", "drive-2"] and store.hz == 10
    for k, drive_actions in enumerate(actions):
        found = store.drives[store.drives.names.index(f"drive-{k}")]
        jpegs, stored = store.read(np.arange(found.start, found.start + found.frames))
        assert np.allclose(stored, np.stack(drive_actions), atol=1e-6)
        assert jpegs == [encode(image) for image in images[k]]
        speed = store.read_values([found.start], ["speed"])["speed"][0]
        assert speed > 4
    assert len(frame_times(recorded[0].video).seconds) == 12


@pytest.mark.parametrize("what", ["model", "road"])
def test_action_log_repeats_the_drive_to_the_byte(
    what: str, model_scenario: Scenario, trained: Path, road_store: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    scenario = model_scenario if what == "model" else road_scenario(tmp_path / "recorded")
    engine, recorded = started(scenario)
    drive(engine, range(14))
    engine.rewind(11)
    engine.start_recording("drive-a", recorded.append)
    drive(engine, range(20, 25))
    engine.reseed(5)
    drive(engine, range(25, 28))
    finish(engine)
    log = recorded[0].log
    header, *steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert header["steps"] == len(steps) == 19 and [step["seed"] for step in steps if "seed" in step] == [5]
    assert recorded[0].frames == 8

    options = ["--env", "road", "--image-size", "64", "64"]
    if what == "model":
        options = ["--checkpoint", str(trained), "--data-root", str(road_store)]
    monkeypatch.setattr(sys, "argv", ["daydrive", "drive", *options, "--replay", str(log), "--device", "cpu"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and "19 frames are equal" in capsys.readouterr().out

    steps[12]["action"][0] = 0.9
    log.write_text("".join(json.dumps(line) + "\n" for line in (header, *steps)))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and "frame 13 differs" in capsys.readouterr().out


def test_rewinding_and_starting_anew_end_a_recording(tmp_path: Path) -> None:
    engine, recorded = started(road_scenario(tmp_path / "recorded"))
    for k, change in enumerate((lambda: engine.rewind(1), lambda: engine.start(None))):
        engine.start_recording(f"drive-{k}", recorded.append)
        assert engine.recording
        drive(engine, range(5))
        recording = engine._recording
        assert recording is not None
        change()
        assert not engine.recording
        recording.join()
    assert [found.frames for found in recorded] == [5, 5]


def test_failed_recordings_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recorded"
    engine, recorded = started(road_scenario(folder))
    engine.start_recording("short", recorded.append)
    drive(engine, range(1))
    finish(engine)
    assert recorded[0].error is not None and "at least 2" in recorded[0].error and not list(folder.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daydrive.recording.recorder.encode", full)
    engine.start_recording("full", recorded.append)
    drive(engine, range(400))
    finish(engine)
    assert recorded[1].error is not None and "No space left" in recorded[1].error and not list(folder.iterdir())

    (tmp_path / "file").touch()
    engine, _ = started(road_scenario(tmp_path / "file"))
    with pytest.raises(UserError, match="is a file"):
        engine.start_recording("a", recorded.append)
    assert not engine.recording


def test_logs_of_something_else_are_rejected(model_scenario: Scenario, tmp_path: Path) -> None:
    engine, recorded = started(model_scenario)
    engine.start_recording("drive-a", recorded.append)
    drive(engine, range(3))
    finish(engine)
    log = recorded[0].log
    with pytest.raises(UserError, match="recorded with another simulator"):
        replay_file(road_scenario(tmp_path), log)
    lines = log.read_text().splitlines()
    for broken, message in (
        ([], ":1: not a line"),
        (["{}"], ":1: not a line"),
        ([lines[0].replace('"version": 1', '"version": 9')], "version 1"),
        ([lines[0].replace('"driven"', '"else"')], "does not say what"),
        ([lines[0], "{"], ":2: not a line"),
        ([*lines[:2], lines[3]], ":3: .*step 3 follows step 1"),
        ([lines[0], lines[1].replace('"action": [', '"action": [7, ')], ":2: .*is not an action"),
        ([lines[0], lines[1].replace("frame", "image")], ":2: not a line"),
        ([lines[0].replace(":", ": ", 1).replace('"moment": "', '"moment": "x')], "no moment"),
    ):
        log.write_text("\n".join(broken))
        with pytest.raises(UserError, match=message):
            replay_file(model_scenario, log)
    log.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        replay_file(model_scenario, log)
