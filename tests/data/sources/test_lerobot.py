"""LeRobot datasets: reading versions 2.1 and 3.0, and exporting version 3.0."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from daydrive import cli
from daydrive.data.export import export_lerobot, lerobot, video
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from helpers.drives import write_drive
from helpers.open_formats import SIZE, seen, train_and_evaluate, write_lerobot


def prepared(root: Path, size: tuple[int, int] = SIZE, **options: object) -> Store:
    target = root.parent / f"store{len(list(root.parent.glob('store*')))}"
    return Store.open(prepare("lerobot", root, target, size, workers=1, **options))


def decoded(store: Store) -> np.ndarray:
    return np.stack([simplejpeg.decode_jpeg(jpeg) for jpeg in store.read(np.arange(store.rows))[0]]).astype(int)


@pytest.mark.parametrize("limit", [0, 200])
def test_round_trip_of_a_store(limit: int, road_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """limit: maximum file size, MB; 0 for separate files for each episode."""
    monkeypatch.setattr(lerobot, "DATA_MB", limit)
    monkeypatch.setattr(video, "MAX_MB", limit)
    root = export_lerobot(road_store, tmp_path / "more" / "dataset")
    original, back = Store.open(road_store), prepared(root, (64, 64))
    files = len(original.drives) if limit == 0 else 1
    assert len(list(root.rglob("data/*/*.parquet"))) == len(list(root.rglob("*.mp4"))) == files
    assert [(d.split, d.frames) for d in back.drives] == [(d.split, d.frames) for d in original.drives]
    rows = np.arange(original.rows)
    assert back.hz == original.hz and np.array_equal(back.read_actions(rows), original.read_actions(rows)), (
        "bit for bit"
    )
    speed = original.read_values(rows, ["speed"])["speed"]
    assert np.array_equal(back.read_values(rows, ["speed"])["speed"], speed.astype(np.float32))
    wrong = np.abs(decoded(original) - decoded(back)).mean(axis=(1, 2, 3))
    assert wrong.max() < 6 and 10 * np.log10(255**2 / (wrong**2).mean()) > 33, "each frame has the right image"
    assert back.metadata["drives"][0]["made_from"]["steering"] == "action.steering" and not find_bad_rows(back)
    info = json.loads((root / "meta/info.json").read_text())
    assert info["total_frames"] == original.rows and info["fps"] == 10 and info["codebase_version"] == "v3.0"
    exported = json.loads((root / "meta/daydrive.json").read_text())
    assert exported["drives"] == [d.name for d in original.drives] and exported["fingerprint"] == original.fingerprint


def test_exported_metadata_of_lerobot(road_store: Path, tmp_path: Path) -> None:
    root = export_lerobot(road_store, tmp_path / "dataset")
    store = Store.open(road_store)
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert tasks.to_pylist() == [{"task_index": 0, "task": "drive"}]
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    actions = store.read_actions(np.arange(store.rows))
    assert table.schema.field("action").type == pa.list_(pa.float32(), 4)
    assert table.column("index").to_pylist() == list(range(store.rows)) and table.column("timestamp").type == "float"
    stats = json.loads((root / "meta/stats.json").read_text())
    for name, reduced in (("min", actions.min(0)), ("max", actions.max(0)), ("mean", actions.mean(0))):
        assert np.allclose(stats["action"][name], reduced, atol=1e-6)
    assert np.allclose(stats["action"]["std"], actions.std(0), atol=1e-6) and stats["action"]["count"] == [store.rows]
    pixels = decoded(store).reshape(-1, 3) / 255
    assert np.array(stats[lerobot.CAMERA]["mean"]).shape == (3, 1, 1)
    assert np.allclose(np.ravel(stats[lerobot.CAMERA]["mean"]), pixels.mean(0), atol=1e-6)
    assert np.allclose(np.ravel(stats[lerobot.CAMERA]["std"]), pixels.std(0), atol=1e-6)
    assert set(stats) == {name for name in json.loads((root / "meta/info.json").read_text())["features"]}
    episodes = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [e["dataset_to_index"] - e["dataset_from_index"] for e in episodes] == [e["length"] for e in episodes]
    key = f"videos/{lerobot.CAMERA}"
    assert episodes[1][f"{key}/from_timestamp"] == episodes[0][f"{key}/to_timestamp"] == 2.4
    assert {f"{key}/chunk_index", f"{key}/file_index", "data/chunk_index", "data/file_index", "tasks",
            "meta/episodes/chunk_index", "meta/episodes/file_index", "stats/action/mean"} <= {*episodes[0]}  # fmt: skip


def test_export_command(road_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["data", "export", road_store, "--output", tmp_path / "out", "--split", "val"]
    monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    assert info["splits"] == {"val": f"0:{len(Store.open(road_store).split('val'))}"} and info["total_episodes"] > 0


def test_unknown_values_and_fractional_rate(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 40)
    store = prepare("folder", tmp_path / "raw", tmp_path / "s", (16, 16), hz=14.3, workers=1)
    back = prepared(export_lerobot(store, tmp_path / "out"), (16, 16))
    assert back.hz == 14.3 and back.rows == Store.open(store).rows
    assert np.isnan(back.read_values(np.arange(back.rows), ["speed"])["speed"]).all()


def test_version_2_with_names_and_cameras(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_lerobot(tmp_path / "raw", (24, 12, 30), names={"motors": ["steering", "throttle", "brake"]})
    store = prepared(root)
    output = capsys.readouterr().out
    front, wrist = "observation.images.front", "observation.images.wrist"
    assert f"Using the camera {front}; available for --camera: {front}, {wrist}" in output
    assert {d.name: d.frames for d in store.drives} == {
        "episode_000000": 24,
        "episode_000001": 12,
        "episode_000002": 30,
    }
    for drive in store.drives:
        rows, count = drive.start + np.arange(drive.frames), np.arange(drive.frames)
        assert seen(store, rows) == count.tolist()
        expected = np.column_stack([count / 100, 0.5 + 0 * count, 0 * count, 1 + 0 * count]).astype(np.float32)
        assert np.array_equal(store.read_actions(rows), expected)
        values = store.read_values(rows, ["speed", "frame_index", "episode"])
        assert np.array_equal(values["speed"], 2.0 * count) and np.array_equal(values["frame_index"], count)
    assert sorted(d.split for d in store.drives) == ["test", "train", "val"], "a single split of the dataset is ignored"
    other = prepared(root, camera="wrist", hz=5)
    drive = other.drives[0]
    rows = drive.start + np.arange(drive.frames)
    assert seen(other, rows) == list(range(20, 20 + 2 * drive.frames, 2)) and other.hz == 5.0
    assert np.allclose(other.read_actions(rows)[:-1, 0], (np.arange(0, 2 * drive.frames - 2, 2) + 0.5) / 100)
    assert other.metadata["drives"][0]["made_from"]["images"] == "observation.images.wrist"


def test_images_in_parquet_numbers_without_names_and_own_splits(tmp_path: Path) -> None:
    splits = {"train": "0:2", "validation": "2:3", "test": "3:4"}
    root = write_lerobot(tmp_path / "raw", (24, 25, 12, 13), None, "image", splits=splits)
    mapping = {"steering": "action.0", "steering_scale": -2, "throttle": "action.1"}
    store = prepared(root, **mapping)
    assert [d.split for d in store.drives] == ["train", "train", "val", "test"]
    assert seen(store) == [k for length in (24, 25, 12, 13) for k in range(length)]
    assert np.allclose(store.read_actions(np.arange(24))[:, 0], -2 * np.arange(24) / 100)
    assert store.metadata["drives"][0]["made_from"]["brake"] == "action.1 below 0"
    assert sorted(d.split for d in prepared(root, split="by-drive", **mapping).drives) == [
        "test",
        "train",
        "train",
        "val",
    ]


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    root = write_lerobot(tmp_path / "raw", (24, 24, 24))
    train_and_evaluate(prepare("lerobot", root, tmp_path / "store", (64, 64), workers=1), tiny_config, tmp_path)
