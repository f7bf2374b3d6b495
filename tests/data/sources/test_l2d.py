"""L2D (yaak-ai/L2D, LeRobot 3.0): its columns are mapped without options, and only what is asked for is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from helpers.l2d import FRONT, needs_av1, readings, write_l2d
from helpers.open_formats import SIZE, seen, train_and_evaluate
from helpers.refusals import refused

LENGTHS, SESSIONS = (24, 16, 20, 24), ("a", "b", "a", "c")
DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{FRONT}/chunk-000/file-000.mp4"


def prepared(root: Path, **options: object) -> Store:
    target = root.parent / f"store{len(list(root.parent.glob('store*')))}"
    return Store.open(prepare("lerobot", root, target, SIZE, workers=1, **options))


@needs_av1
def test_all_values_without_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_l2d(tmp_path / "raw", LENGTHS, SESSIONS)
    with av.open(str(root / VIDEO)) as container:
        assert container.streams.video[0].codec_context.name in ("libdav1d", "av1")
    store = prepared(root)
    assert f"Using the camera {FRONT}" in capsys.readouterr().out
    assert store.hz == 10.0 and not find_bad_rows(store)
    drives = {drive.name: drive for drive in store.drives}
    assert drives["episode_000000"].split == drives["episode_000002"].split, "parts of one recording are in one split"
    for number, length in enumerate(LENGTHS):
        drive = drives[f"episode_{number:06d}"]
        rows, truth = drive.start + np.arange(drive.frames), readings(length, number)
        assert drive.frames == length and seen(store, rows) == list(range(length))
        gear = np.where(np.arange(length) < 2, 0.0, np.where(np.arange(length) < length - 4, 1.0, -1.0))
        expected = np.column_stack([truth["steering"], truth["throttle"], truth["brake"], gear])
        assert np.allclose(store.read_actions(rows), expected, atol=1e-6)
        names = ["speed", "heading", "latitude", "longitude", "recorded_gear", "episode", "frame_index"]
        values = store.read_values(rows, names)
        assert np.allclose(values["speed"], truth["speed"] / 3.6, atol=1e-5), "m/s"
        assert np.array_equal(values["recorded_gear"], truth["gear"])
        for name in ("heading", "latitude", "longitude"):
            assert np.array_equal(values[name], truth[name].astype(np.float32).astype(np.float64)), name
        assert np.array_equal(values["frame_index"], np.arange(length)) and (values["episode"] == number).all()
    made_from = store.metadata["drives"][0]["made_from"]
    assert made_from["steering"] == "action.continuous.steering_angle_normalized" and made_from["images"] == FRONT
    assert "3 D" in made_from["gear"] and made_from["speed"].endswith("km/h, converted to m/s")


@needs_av1
@pytest.mark.parametrize(
    ("episodes", "expected"), [("2:4", [2, 3]), ("3", [3]), (" 2, 3:9", [2, 3]), ("3,2", [2, 3]), ("2:3,2:4", [2, 3])]
)
def test_only_the_episodes_asked_for_are_read(episodes: str, expected: list[int], tmp_path: Path) -> None:
    root = write_l2d(tmp_path / "raw", LENGTHS, SESSIONS)
    for file in (DATA, VIDEO):
        (root / file).unlink()
    store = prepared(root, episodes=episodes)
    recordings = {drive.name.removesuffix(f".{drive.split}") for drive in store.drives}
    assert recordings == {f"episode_{number:06d}" for number in expected}


@needs_av1
def test_own_factors_come_first(tmp_path: Path) -> None:
    root = write_l2d(tmp_path / "raw", (16,), ("a",))
    store = prepared(root, speed_scale=1, steering_scale=-2, gear="action.discrete.turn_signal", camera="front_left")
    values, actions = store.read_values(np.arange(4), ["speed"]), store.read_actions(np.arange(4))
    assert np.allclose(values["speed"], readings(16, 0)["speed"][:4]) and (actions[:, 3] == 0).all()
    assert np.allclose(actions[:, 0], -2 * readings(16, 0)["steering"][:4], atol=1e-6)


@needs_av1
def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    root = write_l2d(tmp_path / "raw", (24, 24, 24), ("a", "b", "c"))
    train_and_evaluate(prepare("lerobot", root, tmp_path / "store", (64, 64), workers=1), tiny_config, tmp_path)


Spoil = Callable[[Path], object]


def column(file: str, name: str, edit: Callable[[list[Any]], list[Any] | None]) -> Spoil:
    """Replaces a column by the result of `edit` on its values, or removes it if that is None."""

    def apply(root: Path) -> None:
        table = pq.read_table(root / file)
        index, edited = table.schema.get_field_index(name), edit(table.column(name).to_pylist())
        kept = table.remove_column(index)
        pq.write_table(kept if edited is None else kept.add_column(index, name, pa.array(edited)), root / file)

    return apply


def put(index: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [*values[:index], value, *values[index + 1 :]]


def without_feature(name: str) -> Spoil:
    def apply(root: Path) -> None:
        info = json.loads((root / "meta/info.json").read_text())
        del info["features"][name]
        (root / "meta/info.json").write_text(json.dumps(info))

    return apply


@pytest.mark.parametrize(
    ("spoil", "options", "expected"),
    [
        (column(DATA, "action.discrete", put(3, [7, 0])), {}, "frame 3: action.discrete.gear is 7, not one of 0, 1, 2"),
        (column(DATA, "action.discrete", lambda _: None), {}, "file-000.parquet has no column 'action.discrete'"),
        (column(DATA, "action.continuous", put(4, [0.5, 0.5])), {}, "frame 4: action.continuous does not have 3"),
        (column(DATA, "action.continuous", put(4, [0.5, 2.0, 0])), {}, "brake_pedal_normalized is 2, outside [0, 1]"),
        (column(DATA, "action.continuous", put(4, [float("inf"), 0, 0])), {}, "frame 4: action.continuous is empty or"),
        (column(DATA, "observation.state.vehicle", put(5, [1.0])), {}, "frame 5: observation.state.vehicle does not"),
        (column(DATA, "timestamp", put(5, 9.0)), {}, "frame 5: its timestamp is 9.0000 s, expected 0.5000"),
        (column(EPISODES, f"videos/{FRONT}/from_timestamp", put(0, 900.0)), {}, "invalid time range in its video, 900"),
        (column(EPISODES, f"videos/{FRONT}/file_index", lambda _: None), {}, "has no column 'videos/"),
        (column(EPISODES, "length", put(0, 0)), {}, "row 1: length is 0, expected an integer of at least 1"),
        (lambda root: (root / VIDEO).write_bytes(b"version https://git-lfs"), {}, "file-000.mp4 cannot be read"),
        (lambda root: (root / VIDEO).unlink(), {}, "file-000.mp4 cannot be read"),
        (without_feature("action.continuous"), {"gear": "gas"}, "speed, observation.state.vehicle.heading"),
        (without_feature(FRONT), {"camera": "front_left"}, "--camera front_left: there is no such camera"),
        (lambda root: None, {"episodes": "7"}, "has no episode 7"),
        (lambda root: None, {"episodes": "0,7:9"}, "has no episode 7:9"),
        (lambda root: None, {"episodes": "4:1"}, "--set episodes=4:1: expected numbers or ranges without their end"),
        (lambda root: None, {"episodes": ""}, "--set episodes=: expected numbers or ranges"),
        (lambda root: None, {"episodes": "all"}, "--set episodes=all: expected numbers or ranges"),
    ],
)  # fmt: skip
def test_malformed(spoil: Spoil, options: dict[str, object], expected: str, tmp_path: Path) -> None:
    spoil(write_l2d(tmp_path / "raw", (12, 12), ("a", "b"), codec="libx264"))
    assert expected in refused("lerobot", tmp_path, **options)
