"""Malformed nuScenes datasets: a one-line error with file and record or token, and no files left behind."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from helpers.nuscenes import SceneSpec, edit, write_nuscenes
from helpers.refusals import refuses

Spoil = Callable[[Path], object]

MINI = "v1.0-mini"
DATA, POSES, SCENES = f"{MINI}/sample_data.json", f"{MINI}/ego_pose.json", f"{MINI}/scene.json"
STEERING, MONITOR = "can_bus/scene-0061_steeranglefeedback.json", "can_bus/scene-0061_vehicle_monitor.json"


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [SceneSpec("scene-0061", 1, seconds=2.0), SceneSpec("scene-0103", 2, seconds=2.0)]
    return write_nuscenes(tmp_path_factory.mktemp("good") / "raw", scenes, cameras=("CAM_FRONT",), size=(8, 16))


def put(file: str, row: int, **fields: Any) -> Spoil:
    """Sets fields of a record, counted from 1."""
    return lambda root: edit(root / file, lambda records: records[row - 1].update(fields))


def drop(file: str, row: int, name: str | None = None) -> Spoil:
    """Removes a record, or a field of it."""
    return lambda root: edit(
        root / file, lambda records: records.pop(row - 1) if name is None else records[row - 1].pop(name)
    )


def write(file: str, content: str) -> Spoil:
    return lambda root: (root / file).write_text(content)


def cut(file: str, share: float) -> Spoil:
    def apply(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: int(len(content) * share)])

    return apply


def image_path(root: Path, at: int = 3) -> Path:
    return root / json.loads((root / DATA).read_text())[at]["filename"]


def linked_out(path: str | None) -> Spoil:
    def apply(root: Path) -> None:
        original = image_path(root) if path is None else root / path
        shutil.move(original, root.parent / "elsewhere")
        original.symlink_to(root.parent / "elsewhere")

    return apply


def twice(file: str) -> Spoil:
    return lambda root: edit(root / file, lambda records: records.append(records[2 % len(records)]))


def swapped(records: list[dict[str, Any]]) -> None:
    records[4]["timestamp"], records[5]["timestamp"] = records[5]["timestamp"], records[4]["timestamp"]


def without_images(root: Path) -> None:
    """Removes the images of the second scene, but not its record."""
    edit(root / DATA, lambda records: records.__setitem__(slice(None), [r for r in records if "0061" in r["filename"]]))


MISSING = "f" * 32

CASES: list[tuple[Spoil, str]] = [
    (lambda root: (root / DATA).unlink(), "sample_data.json cannot be read (No such file or directory)"),
    (lambda root: (root / MINI / "log.json").unlink(), "log.json cannot be read"),
    (cut(DATA, 0.5), "sample_data.json, record 65 is malformed or truncated (Expecting value)"),
    (cut(POSES, 0.98), "ego_pose.json, record 126 is malformed or truncated"),
    (lambda root: write(DATA, (root / DATA).read_text().rstrip("]\n"))(root), "truncated after record 128"),
    (write(DATA, ""), "sample_data.json is not a JSON list of records"),
    (write(SCENES, '{"token": 1}'), "scene.json is not a JSON list of records"),
    (write(SCENES, "[]"), "scene.json has no scenes"),
    (write(SCENES, "[1, 2]"), "scene.json, record 1: 1 is not a record"),
    (write(SCENES, '[{"token": "a"}] []'), "scene.json has trailing data after record 1"),
    (write(SCENES, "[" * 100_000), "scene.json, record 1 is malformed or truncated"),
    (write(DATA, '[{"token": "' + "a" * 3_000_000), "record 1 is malformed or longer than 262144 characters"),
    (write(DATA, '[{"timestamp": ' + "9" * 5000 + "}]"), "record 1 is malformed or truncated (Exceeds the limit"),
    (drop(DATA, 5, "timestamp"), "sample_data.json, record 5 (token "),
    (put(DATA, 5, timestamp="now"), "): timestamp is 'now', expected a non-negative integer"),
    (put(DATA, 5, timestamp=float("nan")), "): timestamp is nan, expected a non-negative integer"),
    (put(DATA, 5, is_key_frame=1), "): is_key_frame is 1, expected true or false"),
    (put(DATA, 5, token=""), "record 5: token is '', expected a token"),
    (lambda root: edit(root / DATA, swapped), "that of its prev"),
    (put(DATA, 6, timestamp=10), "): its timestamp 10 is not after 1533151603"),
    (put(DATA, 6, next=MISSING), f"): its next '{MISSING}' is not an image of the same camera and scene"),
    (drop(DATA, 6), "): its next "),
    (put(DATA, 6, prev=MISSING), " does not refer back to it as prev"),
    (put(DATA, 1, prev=MISSING), "does not lead to the start of the scene"),
    (put(DATA, 6, sample_token=MISSING), f"): its sample_token '{MISSING}' is not in sample.json"),
    (put(DATA, 6, calibrated_sensor_token=MISSING), f"its calibrated_sensor_token '{MISSING}' is not in calibrated"),
    (put(DATA, 6, ego_pose_token=MISSING), f"): its ego_pose_token '{MISSING}' is not in ego_pose.json"),
    (put(f"{MINI}/calibrated_sensor.json", 1, sensor_token=MISSING), f"its sensor_token '{MISSING}' is not in sensor"),
    (put(f"{MINI}/sample.json", 2, scene_token=MISSING), f"its scene_token '{MISSING}' is not in scene.json"),
    (put(SCENES, 2, log_token=MISSING), "scene.json, record 2 (token "),
    (put(SCENES, 2, name="scene-0061"), "the same name as record 1, 'scene-0061'"),
    (twice(DATA), "the same token as record 3"),
    (twice(POSES), "there is another record with the same token"),
    (twice(SCENES), "scene.json, record 3 (token "),
    (without_images, "sample_data.json has no images of CAM_FRONT in this scene"),
    (put(POSES, 6, translation=[1.0, float("nan"), 0.0]), "translation is [1.0, nan, 0.0], expected 3 finite numbers"),
    (put(POSES, 6, rotation=[1, 0, 0]), "rotation is [1, 0, 0], expected 4 finite numbers"),
    (put(POSES, 6, rotation=[0, 0, 0, 0]), "is not a quaternion"),
    (put(DATA, 6, filename="/etc/passwd"), "its filename '/etc/passwd' leads out of the data root"),
    (put(DATA, 6, filename="samples/../../x.jpg"), "its filename 'samples/../../x.jpg' leads out of the data root"),
    (lambda root: image_path(root).unlink(), "does not exist; scene-0061 has 23 of its 24 images"),
    (lambda root: image_path(root).write_bytes(b""), ".jpg is empty (0 bytes)"),
    (lambda root: image_path(root).write_bytes(image_path(root).read_bytes()[:200]), ".jpg is a damaged JPEG"),
    (linked_out(None), ".jpg is a link out of the data root"),
    (linked_out("samples/CAM_FRONT"), "samples/CAM_FRONT is a link out of the data root"),
    (linked_out(DATA), "sample_data.json is a link out of the data root"),
    (linked_out(STEERING), "scene-0061_steeranglefeedback.json is a link out of the data root"),
    (lambda root: [shutil.rmtree(root / name) for name in ("samples", "sweeps")], "no images of CAM_FRONT; unpack"),
    (lambda root: (root / MINI).rename(root / "v1.0"), "has no nuScenes tables, a folder v1.0-trainval or"),
    (lambda root: shutil.copytree(root / MINI, root / "v1.0-test"), "choose one with --version"),
    (cut(STEERING, 0.5), "scene-0061_steeranglefeedback.json, record "),
    (write(STEERING, '{"value": 1}'), "steeranglefeedback.json is not a JSON list of records"),
    (put(STEERING, 6, value=None), "record 6: value is None, expected a finite number"),
    (put(STEERING, 6, value=float("inf")), "record 6: value is inf, expected a finite number"),
    (put(STEERING, 6, utime=12), "record 6: its utime 12 is before 15331516"),
    (drop(MONITOR, 3, "brake"), "scene-0061_vehicle_monitor.json, record 3: it has no 'brake'"),
    (put("can_bus/scene-0061_pose.json", 3, vel=[1.0]), "record 3: vel is [1.0], expected 3 finite numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected"), CASES)
def test_user_errors(spoil: Spoil, expected: str, good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "raw")
    spoil(tmp_path / "raw")
    message = refuses(
        lambda: prepare("nuscenes", tmp_path / "raw", tmp_path / "out" / "store", (16, 16), workers=1), tmp_path
    )
    assert expected in message and str(tmp_path) in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"camera": "CAM_FRONTAL"}, "v1.0-mini has no such camera; did you mean 'CAM_FRONT'?"),
        ({"camera": "LIDAR_TOP"}, "v1.0-mini has no such camera; "),
        ({"version": "v1.0"}, "--version v1.0: there is no such version of nuScenes; did you mean 'v1.0-"),
        ({"version": "v1.0-trainval"}, "raw has no such folder; available: v1.0-mini"),
        ({"split": "oficial"}, "--split oficial: must be official or by-drive"),
        ({"hz": 30}, "v1.0-mini has 12.1 frames per second, too few for --hz 30"),
    ],
)
def test_options(options: dict[str, object], expected: str, good: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").symlink_to(good)
    call = lambda: prepare("nuscenes", tmp_path / "raw", tmp_path / "store", workers=1, **options)  # noqa: E731
    assert expected in refuses(call, tmp_path)


def test_official_split_of_an_unknown_scene(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "raw")
    put(SCENES, 1, name="custom")(tmp_path / "raw")
    message = refuses(
        lambda: prepare("nuscenes", tmp_path / "raw", tmp_path / "s", split="official", workers=1), tmp_path
    )
    assert message == "--split official: the scene 'custom' is not in the lists of v1.0-mini; use by-drive"


def test_folder_of_the_tables_as_root(good: Path, tmp_path: Path) -> None:
    message = refuses(lambda: prepare("nuscenes", good / MINI, tmp_path / "s", workers=1), tmp_path)
    assert message.endswith("; use its parent folder")


def test_split_option_of_other_sources(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x").touch()
    message = refuses(lambda: prepare("kitti", tmp_path / "raw", tmp_path / "s", split="official"), tmp_path)
    assert "does not take --split" in message


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_line_exits_with_2(
    workers: int, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(good, tmp_path / "raw")
    image_path(tmp_path / "raw", 9).write_bytes(b"")
    arguments = [
        "prepare-dataset",
        "--dataset",
        "nuscenes",
        "--data-root",
        str(tmp_path / "raw"),
        "--split",
        "by-drive",
    ]
    monkeypatch.setattr(
        sys, "argv", ["daydrive", *arguments, "--workers", str(workers), "--output", str(tmp_path / "s")]
    )
    monkeypatch.setattr("daydrive.progress.PLAIN_INTERVAL", 1e9)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    message = capfd.readouterr().err
    assert ended.value.code == cli.BAD_INPUT and message.startswith("error: ") and "is empty (0 bytes)" in message
    assert "sample_data.json, token " in message and sorted(tmp_path.rglob("*")) == before
