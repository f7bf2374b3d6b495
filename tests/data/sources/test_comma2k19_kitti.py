"""comma2k19 and KITTI: store contents of a drive with known motion, written in their formats."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from daydrive import cli
from daydrive.data.kinematics.signals import lag
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from daydrive.evaluation.run import evaluate
from helpers.paths import REPO, SHARED
from helpers.recordings import (
    ORIGIN,
    WHEELBASE,
    Truth,
    columns,
    intervals,
    prepared,
    save,
    shown,
    wheel_degrees,
    write_comma2k19,
    write_odometry,
    write_raw,
    write_video,
)
from helpers.runs import run_training

ROUTE = "b0c9d2329ad1606b|2018-08-02--08-34-47"


def test_comma2k19_frames_times_and_actions(tmp_path: Path) -> None:
    truth = Truth(1200, seed=3)
    write_comma2k19(tmp_path / "raw" / "Chunk_1" / ROUTE / "10", truth)
    store = prepared("comma2k19", tmp_path)
    assert store.hz == 20.0 and store.metadata["pixel_aspect"] == 1.0
    assert [(d.name, d.split) for d in store.drives] == [(f"{ROUTE}/10.{s}", s) for s in ("train", "val", "test")]
    drive = store.drives[0]
    rows = drive.start + np.arange(drive.frames)
    values, actions = columns(store, rows), store.read_actions(rows)
    assert np.array_equal(values["video_frame"], np.arange(len(rows))) and np.allclose(
        values["time"], np.arange(len(rows)) / 20
    )
    sample = rows[::60]
    wrong = np.abs(shown(store, sample) - np.stack(truth.images((48, 64)))[::60][: len(sample)]).mean(axis=(1, 2, 3))
    assert wrong.max() < 12, "each row has the right image"
    edges = intervals(truth, np.arange(len(rows)))
    degrees = truth.mean(wheel_degrees(truth.wheel), edges)
    assert np.abs(values["steering_angle"] - degrees).max() < 1.0
    assert np.allclose(actions[:, 0], np.clip(-values["steering_angle"] / 90, -1, 1), atol=1e-6)
    assert np.abs(actions[:, 0]).max() == 1 and (actions[:, 3] == 1).all()
    assert np.abs(values["speed"] - truth.mean(truth.speed, edges)).max() < 0.02
    assert np.abs(values["yaw_rate"] - truth.mean(truth.yaw_rate, edges))[5:].max() < 0.02
    faster = np.gradient(truth.speed, truth.fine)
    assert np.abs(values["acceleration"] - truth.mean(faster, edges)).max() < 0.05
    assert np.allclose(4 * actions[:, 1] - 8 * actions[:, 2], values["acceleration"], atol=1e-5)
    assert abs(values["latitude"][0] - ORIGIN[0]) < 1e-4 and abs(values["longitude"][0] - ORIGIN[1]) < 1e-4
    assert values["latitude"][200] - values["latitude"][0] > 5e-5, "initially driving north"
    assert not find_bad_rows(store)


def test_comma2k19_routes_stay_in_one_split(tmp_path: Path) -> None:
    for route in range(4):
        for segment in (2, 10):
            write_comma2k19(tmp_path / f"raw/Chunk_{1 + route % 2}/r{route}_é|x/{segment}", Truth(40, seed=route))
    store = prepared("comma2k19", tmp_path, size=(16, 16))
    splits = {d.name: d.split for d in store.drives}
    for route in range(4):
        assert splits[f"r{route}_é|x/2"] == splits[f"r{route}_é|x/10"]
    assert sorted(splits.values()) == ["test"] * 2 + ["train"] * 4 + ["val"] * 2
    few = prepared("comma2k19", tmp_path, size=(16, 16), limit=2)
    assert {d.name.rsplit(".", 1)[0] for d in few.drives} == {"r0_é|x/2", "r0_é|x/10"}
    assert [d.split for d in few.drives] == ["train", "train", "val", "test"], "one route is cut in time"
    for part, drives in (("Chunk_1", 4), ("Chunk_1/r0_é|x", 3), ("Chunk_1/r0_é|x/10", 3)):
        assert len(prepared("comma2k19", tmp_path, tmp_path / "raw" / part, (16, 16)).drives) >= drives


def test_comma2k19_at_another_rate_and_backwards(tmp_path: Path) -> None:
    truth = Truth(200, seed=1, backwards=True)
    write_comma2k19(tmp_path / "raw" / ROUTE / "0", truth)
    store = prepared("comma2k19", tmp_path, hz=5)
    rows = np.arange(store.drives[0].frames)
    values, actions = columns(store, rows), store.read_actions(rows)
    assert store.hz == 5.0 and np.array_equal(values["video_frame"], 4.0 * rows)
    edges = intervals(truth, 4 * rows)
    assert np.abs(values["steering_angle"] - truth.mean(wheel_degrees(truth.wheel), edges)).max() < 1.0
    assert (actions[:, 3] == -1).all() and values["speed"].min() > 0
    assert np.corrcoef(values["yaw_rate"], -actions[:, 0])[0, 1] > 0.9, "in reverse the car turns the other way"


def test_comma2k19_missing_messages_split_the_drive(tmp_path: Path) -> None:
    truth = Truth(200)
    can = write_comma2k19(tmp_path / "raw" / ROUTE / "0", truth) / "processed_log/CAN/steering_angle"
    times, values = (np.load(can / name) for name in ("t", "value"))
    remaining = (times < truth.times[60]) | (times > truth.times[100])
    save(can / "t", times[remaining])
    save(can / "value", values[remaining])
    store = prepared("comma2k19", tmp_path)
    assert {d.name.rsplit(".", 1)[0] for d in store.drives} == {f"{ROUTE}/0.0", f"{ROUTE}/0.1"}
    frames = store.read_values(np.arange(store.rows), ["video_frame"])["video_frame"]
    assert not ((frames > 63) & (frames < 97)).any() and frames.max() == 199


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the recordings are not at {SHARED}")
def test_comma2k19_real_segment(tmp_path: Path) -> None:
    """Real CAN data and poses with a generated video, since the example has none."""
    shutil.copytree(SHARED / "comma2k19_example", tmp_path / "raw")
    (segment,) = (folder.parent for folder in (tmp_path / "raw").rglob("global_pose"))
    segment.chmod(0o755)
    write_video(segment / "video.hevc", Truth(1200).images((48, 64)))
    store = prepared("comma2k19", tmp_path, size=(24, 32))
    rows = np.arange(store.drives[0].frames)
    values, actions = columns(store, rows), store.read_actions(rows)
    assert store.hz == 20.0 and 1100 < store.rows <= 1200
    delay = lag(actions[:, 0], values["yaw_rate"] / values["speed"], 20.0)
    assert delay.correlation > 0.85 and 0 < delay.frames < 3, "positive to the right"
    assert -4.6 <= values["steering_angle"].min() < -3 and values["speed"].min() > 7.9 and values["speed"].max() < 19.9
    assert np.allclose([values["latitude"][0], values["longitude"][0]], [37.72, -122.47], atol=0.05)
    assert not find_bad_rows(store)


def test_kitti_odometry(tmp_path: Path) -> None:
    truths = {f"{k:02d}": Truth(60, hz=9.66, seed=k) for k in range(4)}
    for name, truth in truths.items():
        write_odometry(tmp_path / "raw" / "dataset", name, truth)
    write_odometry(tmp_path / "raw" / "dataset", "11", truths["00"])
    (tmp_path / "raw/dataset/poses/11.txt").unlink()
    store = prepared("kitti", tmp_path, size=(30, 100))
    assert store.hz == 9.66 and sorted(d.split for d in store.drives) == ["test", "train", "train", "val"]
    assert sorted(d.name for d in store.drives) == [f"dataset/sequences/{name}" for name in truths]
    for drive in store.drives:
        truth = truths[drive.name[-2:]]
        rows = drive.start + np.arange(drive.frames)
        values, actions = columns(store, rows), store.read_actions(rows)
        count = np.arange(len(rows))
        assert (
            len(rows) >= 59 and np.array_equal(values["picture"], count) and np.allclose(values["time"], count / 9.66)
        )
        wrong = np.abs(shown(store, rows) - np.stack(truth.images((30, 100)))[count]).mean(axis=(1, 2, 3))
        assert wrong.max() < 6, "in color, from camera 2"
        edges = intervals(truth, count)
        assert np.abs(actions[:, 0] * 0.5 - truth.mean(truth.wheel, edges)).max() < 0.03
        assert np.corrcoef(actions[:, 0], truth.mean(truth.wheel, edges))[0, 1] > 0.98
        assert np.abs(values["speed"] - truth.mean(truth.speed, edges)).max() < 0.2
        assert np.isnan(values["latitude"]).all()
    assert store.metadata["bicycle"]["wheelbase"] == WHEELBASE and not find_bad_rows(store)


@pytest.mark.parametrize("camera", ["0", "image_0", "00"])
def test_kitti_grayscale_images_become_rgb(camera: str, tmp_path: Path) -> None:
    write_odometry(tmp_path / "raw", "00", Truth(40, hz=10, seed=1))
    store = prepared("kitti", tmp_path, camera=camera)
    image = shown(store, np.array([0]))[0]
    assert image.shape == (48, 64, 3) and np.ptp(image, axis=2).max() == 0 and image.std() > 10


def test_kitti_without_times_and_with_poses_in_the_sequence(tmp_path: Path) -> None:
    folder = write_odometry(tmp_path / "raw", "00", Truth(40, hz=10), cameras=(0,))
    (tmp_path / "raw" / "poses" / "00.txt").rename(folder / "poses.txt")
    (folder / "times.txt").unlink()
    for root in (tmp_path / "raw", folder):
        store = prepared("kitti", tmp_path, root)
        assert store.hz == 10.0 and {d.name[-2:] for d in store.drives} <= {"in", "al", "st"}


def test_kitti_raw_with_a_gap_in_the_readings(tmp_path: Path) -> None:
    truth = Truth(100, hz=9.66, seed=2)
    write_raw(tmp_path / "raw", 1, truth)
    write_raw(tmp_path / "raw", 2, Truth(100, hz=9.66, seed=5), gap=(40, 55))
    write_raw(tmp_path / "raw", 10, Truth(60, hz=9.66, seed=6))
    store = prepared("kitti", tmp_path, hz=9.6)
    names = [f"2011_09_26/2011_09_26_drive_{name}_sync" for name in ("0001", "0002", "0010")]
    assert sorted(d.name for d in store.drives) == [names[0], f"{names[1]}.0", f"{names[1]}.1", names[2]]
    (drive,) = (d for d in store.drives if d.name == names[0])
    rows = drive.start + np.arange(drive.frames)
    values, actions = columns(store, rows), store.read_actions(rows)
    chosen = values["picture"].astype(int)
    wrong = np.abs(shown(store, rows[::7]) - resized(truth, chosen[::7])).mean(axis=(1, 2, 3))
    assert wrong.max() < 6
    edges = intervals(truth, chosen)
    assert np.corrcoef(actions[:, 0], truth.mean(truth.wheel, edges))[0, 1] > 0.98
    assert np.abs(values["yaw_rate"] - truth.mean(truth.yaw_rate, edges)).max() < 0.05
    assert values["latitude"][20] > values["latitude"][0] > 48.9
    after = store.read_values([next(d.start for d in store.drives if d.name.endswith(".1"))], ["picture"])["picture"]
    assert 55 <= after[0] <= 57, "frames without readings are skipped"
    first, second = (next(d.split for d in store.drives if d.name == f"{names[1]}.{run}") for run in (0, 1))
    assert first == second, "segments of a recording stay together"


def resized(truth: Truth, chosen: np.ndarray) -> np.ndarray:
    images = truth.images((30, 100))
    return np.stack([cv2.resize(images[k], (64, 48), interpolation=cv2.INTER_LINEAR) for k in chosen])


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the recordings are not at {SHARED}")
def test_kitti_yaw_rate_matches_the_image_motion(tmp_path: Path) -> None:
    store = prepared("kitti", tmp_path, SHARED / "kitti_odometry", (96, 320))
    drives = [d for d in store.drives if d.name.startswith("sequence_2")]
    rows = np.concatenate([d.start + np.arange(d.frames) for d in drives])
    values, actions = columns(store, rows), store.read_actions(rows)
    far = [image[20:50].mean(axis=2).astype(np.float32) for image in shown(store, rows)]
    window = cv2.createHanningWindow(far[0].shape[::-1], cv2.CV_32F)
    pairs = np.flatnonzero(np.diff(values["picture"]) == 1)
    moved = np.array([cv2.phaseCorrelate(far[k], far[k + 1], window)[0][0] for k in pairs])
    focal = 718.856 / 1226 * 320
    turned = -moved / focal * store.hz
    assert (actions[:30, 0] > 0.05).all() and np.median(turned[:30]) > 0.3, "a bend to the right"
    assert abs(np.median(turned[:30] / values["yaw_rate"][pairs][:30]) - 1) < 0.2
    assert values["speed"].min() > 9 and values["speed"].max() < 13
    straight = next(d for d in store.drives if d.name.startswith("sequence_1"))
    assert np.abs(store.read_actions(straight.start + np.arange(straight.frames))[:, 0]).max() < 0.03


def test_steering_can_be_inverted_with_the_metadata(tmp_path: Path) -> None:
    truth = Truth(60, hz=10, seed=4)
    write_odometry(tmp_path / "raw", "00", truth)
    store = prepared("kitti", tmp_path)
    constants = store.metadata["bicycle"]
    rows = np.arange(store.drives[0].frames)
    angle = store.read_actions(rows)[:, 0] * constants["largest_angle"]
    curvature = store.read_values(rows, ["curvature"])["curvature"]
    assert np.allclose(np.tan(angle) / constants["wheelbase"], curvature, atol=1e-4)
    assert set(store.metadata["actions"]["steering"]) == {"unit", "sign", "scale", "converted"}


@pytest.mark.parametrize("dataset", ["comma2k19", "kitti"])
def test_training_and_evaluation(dataset: str, tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        if dataset == "comma2k19":
            write_comma2k19(tmp_path / "raw" / f"route {k}" / "0", Truth(40, seed=k))
        else:
            write_raw(tmp_path / "raw", k, Truth(40, hz=10, seed=k))
    store = prepared(dataset, tmp_path, size=(64, 64), fit="crop")
    run = tmp_path / "run"
    assert run_training(tiny_config, store.path, run, "training.max_steps=2", "training.gradient_accumulation=1") == 0
    found = evaluate(run, store.path, "test", tmp_path / "evaluation", horizon=3, clips=4)
    assert (tmp_path / "evaluation" / "evaluation.json").is_file() and found


@pytest.mark.parametrize("dataset", ["comma2k19", "kitti"])
def test_the_documented_command(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (REPO / "docs" / "DATASETS.md").read_text()
    (line,) = re.findall(rf"^ *python scripts/prepare_dataset.py (--dataset {dataset} .*)$", document, re.MULTILINE)
    arguments = line.split()
    root = tmp_path / arguments[arguments.index("--data-root") + 1]
    if dataset == "comma2k19":
        write_comma2k19(root / "Chunk_1" / ROUTE / "0", Truth(80))
    else:
        write_odometry(root, "00", Truth(40, hz=10))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["daydrive", "prepare-dataset", *arguments, "--workers", "1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    store = Store.open(tmp_path / "data" / "processed" / dataset)
    assert not ended.value.code and store.hz == 10.0 and store.image_size == (64, 128)
    assert store.metadata["fit"] == "crop" and abs(store.pixel_aspect - 1) < 0.1
