"""Store contents from the sources udacity, folder, road and gym, and the clock."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from daydrive.data import sources
from daydrive.data.kinematics import clock
from daydrive.data.prepare.prepare import prepare
from daydrive.data.prepare.split import GAP_SECONDS
from daydrive.data.sources.base import read_options
from daydrive.data.sources.policies import random_policy
from daydrive.data.store.store import Store
from daydrive.types import ACTION_HIGH, ACTION_LOW
from helpers.drives import numbered_image, numbers, write_drive, write_udacity
from helpers.paths import UDACITY


def test_udacity_resampled_with_a_gap(tmp_path: Path) -> None:
    times = [100 * k + (k % 3) for k in range(60)] + [9000 + 100 * k for k in range(60)]
    steering = [(k % 5) / 10 for k in range(120)]
    write_udacity(tmp_path / "raw", times, [(value, 0.25, 0.5, k / 2) for k, value in enumerate(steering)])
    store = Store.open(prepare("udacity", tmp_path / "raw", tmp_path / "store", (32, 48), workers=1))
    assert store.hz == 10.0 and store.image_size == (32, 48)
    assert store.metadata["recorded_image_size"] == [40, 60] and store.metadata["pixel_aspect"] == 1.0
    assert [(drive.split, drive.frames) for drive in store.drives] == [
        ("train", 60), ("train", 21), ("val", 9), ("test", 24),
    ]  # fmt: skip
    row = store.read_values(np.arange(store.rows), ["row", "speed", "time"])
    assert np.array_equal(row["row"][:60], np.arange(1, 61)) and np.array_equal(row["speed"], (row["row"] - 1) / 2)
    assert np.allclose(row["time"][:60], np.arange(60) / 10) and row["time"][60] == 0.0
    actions = store.read_actions(np.arange(store.rows))
    assert np.allclose(actions[:, 0], [steering[int(k) - 1] for k in row["row"]])
    assert np.allclose(actions[:, 1:], [0.25, 0.5, 1.0])
    shown = numbers(store, np.arange(store.rows))
    assert np.abs(np.array(shown) - (row["row"] - 1)).max() <= 3


def test_udacity_at_a_lower_rate_averages_the_actions(tmp_path: Path) -> None:
    write_udacity(tmp_path / "raw", [100 * k for k in range(80)], [(k % 2, k / 100, 0, 0) for k in range(80)])
    store = Store.open(prepare("udacity", tmp_path / "raw", tmp_path / "store", workers=1, hz=5))
    values, actions = store.read_values(np.arange(10), ["row"]), store.read_actions(np.arange(10))
    assert store.hz == 5.0 and np.array_equal(values["row"], 1 + 2 * np.arange(10))
    assert np.allclose(actions[:, 0], 0.5) and np.allclose(actions[:, 1], (2 * np.arange(10) + 0.5) / 100)


def test_udacity_reverses_under_the_brake(tmp_path: Path) -> None:
    """Throttle, brake and speed while starting, stopping, standing, reversing, stopping and driving on."""
    phases = [
        (1, 0, 9),
        (0, 1, 6),
        (0, 1, 0.4),
        (0, 1, 0.2),
        (0, 0.8, 2),
        (0, 0.8, 5),
        (0.3, 0, 3),
        (1, 0, 0.5),
        (1, 0, 4),
    ]
    rows = [(0.1, *phase) for phase in phases for _ in range(3)]
    speeds = [rows[k][3] + 0.1 * (k % 3) * (rows[k][3] > 1) for k in range(len(rows))]
    readings = [(*row[:3], speed) for row, speed in zip(rows, speeds, strict=True)]
    write_udacity(tmp_path / "raw", [100 * k for k in range(len(rows))], readings)
    store = Store.open(prepare("udacity", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1))
    row = store.read_values(np.arange(store.rows), ["row"])["row"].astype(int) - 1
    actions = store.read_actions(np.arange(store.rows))
    reverse = (row >= 11) & (row < 21)
    assert reverse.any() and np.array_equal(actions[:, 3], np.where(reverse, -1, 1))
    recorded = np.array(readings)[row][:, 1:3]
    recorded[reverse] = recorded[reverse][:, ::-1]
    assert np.allclose(actions[:, 1:3], recorded)


@pytest.mark.skipif(not UDACITY.is_dir(), reason=f"the recording is not at {UDACITY}")
def test_real_udacity_recording(tmp_path: Path) -> None:
    store = Store.open(prepare("udacity", UDACITY, tmp_path / "store", (64, 64), workers=1))
    assert store.hz == 14.0 and 3900 < store.rows <= 4053
    rows = np.arange(store.rows)
    line = store.read_values(rows, ["row"])["row"]
    repeated = sum(int((np.diff(line[d.start : d.start + d.frames]) == 0).sum()) for d in store.drives)
    assert repeated / store.rows < 0.005
    assert 0.68 < float((store.read_actions(rows)[:, 0] == 0).mean()) < 0.75
    last = {s: max(d.start + d.frames for d in store.split(s)) - 1 for s in ("train", "val")}
    for split, following in (("train", "val"), ("val", "test")):
        gap = line[store.split(following)[0].start] - line[last[split]]
        assert gap >= GAP_SECONDS * store.hz
    shares = [sum(d.frames for d in store.split(s)) / store.rows for s in ("train", "val", "test")]
    assert np.allclose(shares, [0.7, 0.1, 0.2], atol=0.02)


def test_clock_rarely_repeats_frames() -> None:
    rng = np.random.default_rng(3)
    times = np.cumsum(np.clip(rng.normal(0.0711, 0.0025, 5000), 0.06, 0.08))
    hz = clock.native_hz(times)
    (chosen,) = clock.resample(times, hz)
    ticks = times[0] + np.arange(len(chosen)) / hz
    assert hz == 14.0 and (np.diff(chosen) == 0).mean() < 0.002
    assert np.abs(times[chosen] - ticks).max() <= 1 / hz


def test_clock_splits_at_gaps_and_averages() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.9, 1.0, 1.1])
    assert [run.tolist() for run in clock.resample(times, 10.0)] == [[0, 1, 2], [3, 4, 5]]
    assert clock.resample(np.array([0.0]), 10.0)[0].tolist() == [0]
    held = clock.held_mean(np.array([[1.0], [4.0], [7.0], [9.0]]), np.array([0.0, 0.1, 0.3, 0.4]), np.array([0, 2, 3]))
    assert np.allclose(held, [[3.0], [7.0], [9.0]])


def test_folder_with_splits_in_natural_order(tmp_path: Path) -> None:
    for split, frames in (("train", 12), ("val", 5), ("test", 4)):
        write_drive(tmp_path / "raw" / split / "a", frames)
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (40, 60), workers=1))
    assert [(d.name, d.split, d.frames) for d in store.drives] == [
        ("train/a", "train", 12), ("val/a", "val", 5), ("test/a", "test", 4),
    ]  # fmt: skip
    assert store.hz == 10.0
    assert np.abs(np.array(numbers(store, np.arange(12))) - np.arange(12)).max() <= 3
    assert np.allclose(store.read_actions(np.arange(12))[:, 0], np.arange(12) / 1000)
    first = (tmp_path / "raw/train/a/images/f0.jpg").read_bytes()
    assert store.read([0])[0][0] == first, "a JPEG of the store's size is stored unchanged"


def test_folder_split_by_drive_and_time_column(tmp_path: Path) -> None:
    for k in range(4):
        rows = [f"{i / 20:.3f},{i},{0.1 * (i % 2)},0.5,0,{-1 if i == 3 else 1}" for i in range(10)]
        write_drive(tmp_path / "raw" / f"d{k}", 10, rows, header="time,speed,steering,throttle,brake,gear")
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1, hz=10))
    assert sorted(drive.split for drive in store.drives) == ["test", "train", "train", "val"]
    assert store.hz == 10.0 and store.drives[0].frames == 5
    assert np.allclose(store.read_actions([0, 1])[:, [0, 3]], [[0.05, 1], [0.05, -1]])
    assert store.read_values([0, 1, 2], ["speed"])["speed"].tolist() == [0, 2, 4]


def test_folder_with_a_video(tmp_path: Path) -> None:
    folder = write_drive(tmp_path / "raw" / "only", 30)
    for file in (folder / "images").iterdir():
        file.unlink()
    (folder / "images").rmdir()
    with av.open(str(folder / "road.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 64, "yuv420p", 4_000_000
        for k in range(30):
            for packet in stream.encode(av.VideoFrame.from_ndarray(numbered_image(8 * k, (64, 96)), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (64, 96), workers=1))
    assert store.hz == 20.0 and [d.split for d in store.drives] == ["train", "val", "test"]
    shown = np.array(numbers(store, store.drives[2].start + np.arange(store.drives[2].frames)))
    assert np.abs(shown - 8 * np.arange(24, 30)).max() <= 8


def test_road_is_deterministic_and_split_by_drive(tmp_path: Path) -> None:
    options = {"drives": 8, "frames": 3, "workers": 1}
    a = Store.open(prepare("road", None, tmp_path / "a", (64, 64), seed=1, **options))
    b = Store.open(prepare("road", None, tmp_path / "b", (64, 64), seed=1, **options))
    c = Store.open(prepare("road", None, tmp_path / "c", (64, 64), seed=2, **options))
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert {s: len(a.split(s)) for s in ("train", "val", "test")} == {"train": 2, "val": 2, "test": 4}
    assert len(set(a.read(np.arange(a.rows))[0])) > 16
    assert np.isfinite(list(a.read_values([0], list(a.metadata["values"])).values())).all()


def test_gym_records_car_racing(tmp_path: Path) -> None:
    pytest.importorskip("Box2D")
    store = Store.open(
        prepare("gym", None, tmp_path / "store", (48, 48), workers=1, env="CarRacing-v3", drives=3, frames=8)
    )
    actions = store.read_actions(np.arange(store.rows))
    assert store.hz == 10.0 and [drive.frames for drive in store.drives] == [8, 8, 8]
    assert (actions >= ACTION_LOW).all() and (actions <= ACTION_HIGH).all() and actions[:, 1].max() > 0.1
    assert store.metadata["actions"]["steering"]["converted"] == "as it is"


def test_gym_records_the_road_environment(tmp_path: Path) -> None:
    path = prepare("gym", None, tmp_path / "s", (32, 32), workers=1, env="daydrive/Road-v0", drives=3, frames=4)
    metadata = json.loads((path / "store.json").read_text())
    assert metadata["actions"]["brake"]["converted"] == "as it is" and metadata["frames"] == 12


def test_random_policy_is_smooth_seeded_and_in_range() -> None:
    drive = np.array([random_policy(np.random.default_rng(5), 10.0)() for _ in range(2)])
    assert np.array_equal(drive[0], drive[1])
    policy = random_policy(np.random.default_rng(5), 10.0)
    actions = np.array([policy() for _ in range(2000)])
    assert (actions >= ACTION_LOW).all() and (actions <= ACTION_HIGH).all()
    assert np.abs(np.diff(actions[:, 0])).mean() < 0.4 * actions[:, 0].std() * 1.2
    assert actions[:, 0].std() > 0.3


def test_read_options() -> None:
    values = read_options(sources.get("road"), {"drives": "5", "seed": None})
    assert values == {"drives": 5, "frames": 200, "seed": 0}
