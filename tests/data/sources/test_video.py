"""Videos with and without a CSV: frame times, mapped columns, rotation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg

from daydrive.data import video
from daydrive.data.images import fitted
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.store.store import Store
from helpers.open_formats import SIZE, held_upright, seen, shade, train_and_evaluate, write_csv, write_video

EPOCH = 1_700_000_000.0


def prepared(root: Path, **options: object) -> Store:
    target = root.parent / f"store{len(list(root.parent.glob('store*')))}"
    return Store.open(prepare("video", root, target, SIZE, workers=1, **options))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_frames_and_a_csv_with_its_own_clock_and_columns(tmp_path: Path, suffix: str) -> None:
    jitter = np.random.default_rng(0).integers(-20, 20, 40)
    moments = 300 + 100 * np.arange(40) + jitter + np.where(np.arange(40) >= 25, 2000, 0)
    file = write_video(tmp_path / "raw" / f"déjà vu{suffix}", moments)
    times = np.arange(-1, 7, 0.02)
    rows = np.column_stack([1e3 * (EPOCH + times), 20 * times - 60, np.clip(times / 10, 0, 1), 36 + times, times * 0])
    write_csv(file.with_suffix(".csv"), "unix_ms,wheel_deg,gas,kmh,unused", rows)
    options = {
        "time": "unix_ms", "time_scale": 0.001, "time_offset": EPOCH, "hz": 10, "steering": "wheel_deg",
        "steering_scale": -0.02, "throttle": "gas", "speed": "kmh", "speed_scale": 1 / 3.6,
    }  # fmt: skip
    store = prepared(tmp_path / "raw", **options)
    assert {d.name.rsplit(".", 1)[0] for d in store.drives} == {"déjà vu.0", "déjà vu.1"}, "the gap splits the drive"
    shown = (moments - moments[0]) / 1000
    for drive in store.drives:
        taken = drive.start + np.arange(drive.frames)
        numbers, own = seen(store, taken), store.read_values(taken, ["video_time", "recorded_steering", "speed"])
        assert np.allclose(shown[numbers], own["video_time"], atol=1e-3), "each row has the right image"
        ends = np.append(own["video_time"][1:], np.nan)
        middle = ((own["video_time"] + ends) / 2)[:-1]
        actions = store.read_actions(taken)[:-1]
        assert np.allclose(own["recorded_steering"][:-1], 20 * middle - 60, atol=0.02)
        assert np.allclose(actions[:, 0], np.clip(1.2 - 0.4 * middle, -1, 1), atol=0.03), "positive to the right"
        assert np.allclose(actions[:, 1], middle / 10, atol=1e-3) and (actions[:, 2:] == [0, 1]).all()
        assert np.allclose(own["speed"][:-1], (36 + middle) / 3.6, atol=0.01)
    entry = store.metadata["drives"][0]["made_from"]
    assert entry == {"steering": "wheel_deg", "throttle": "gas", "brake": "gas below 0", "gear": "none"}
    assert "-0.02 * recorded_steering" in store.metadata["actions"]["steering"]["converted"]
    assert store.metadata["decoder"] in ("software", *video.DEVICES) and not find_bad_rows(store)


def test_frames_without_csv_rows_are_skipped(tmp_path: Path) -> None:
    file = write_video(tmp_path / "raw" / "a.mp4", 100 * np.arange(50))
    write_csv(file.with_name("other.csv"), "time,steering,gear", [(1 + k / 20, 0.5, -2) for k in range(40)])
    store = prepared(tmp_path / "raw")
    assert seen(store)[0] in (9, 10) and seen(store)[-1] in (30, 31) and store.hz == 10.0
    assert (store.read_actions(np.arange(store.rows)) == [0.5, 0, 0, -1]).all(), "a gear is its sign"


def test_one_row_per_frame_and_one_pedal(tmp_path: Path) -> None:
    for name, suffix in (("trip/1", ".avi"), ("trip/10", ".mov"), ("other/2", ".mkv"), ("third/3", ".mp4")):
        file = write_video(tmp_path / "raw" / f"{name}{suffix}", 100 * np.arange(30))
        rows = [(k / 100, 0.5 - k / 20) for k in range(30)]
        write_csv(file.with_suffix(".csv"), "steering,throttle", rows)
    store = prepared(tmp_path / "raw", hz=5)
    splits = {d.name: d.split for d in store.drives}
    assert sorted(splits) == ["other/2", "third/3", "trip/1", "trip/10"] and splits["trip/1"] == splits["trip/10"]
    for drive in store.drives:
        rows_ = drive.start + np.arange(drive.frames)
        assert seen(store, rows_) == list(range(0, 30, 2)), drive.name
        mean = 0.5 - np.arange(0.5, 28, 2) / 20
        wanted = np.column_stack([np.arange(0.5, 28, 2) / 100, mean.clip(0), (-mean).clip(0), mean * 0 + 1])
        made = store.read_actions(rows_)[:-1]
        assert np.allclose(made[:, [0, 3]], wanted[:, [0, 3]], atol=1e-6)
        assert np.allclose(made[:, 1:3], wanted[:, 1:3], atol=0.013), "means of the positive and negative parts"


def test_without_a_csv_the_actions_are_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = np.concatenate([np.full((64, 32, 3), 250, np.uint8), np.zeros((64, 32, 3), np.uint8)], axis=1)
    for name in ("a", "b"):
        write_video(tmp_path / "raw" / f"{name}.mp4", 100 * np.arange(20), [left] * 20)
    held_upright(tmp_path / "raw" / "a.mp4")
    store = prepared(tmp_path / "raw")
    assert capsys.readouterr().out.count("2 of 2 videos have no CSV") == 1
    assert (store.read_actions(np.arange(store.rows)) == [0, 0, 0, 1]).all()
    for drive in store.metadata["drives"]:
        assert drive["made_from"] == dict.fromkeys(("steering", "throttle", "brake", "gear"), "none")
        image = simplejpeg.decode_jpeg(store.read([drive["start"]])[0][0]).astype(int)
        upright = drive["name"].startswith("a")
        assert (image[:8].mean() > image[-8:].mean() + 100) == upright, "rotated clockwise: the left side is on top"
        assert (image[:, :8].mean() > image[:, -8:].mean() + 100) != upright


def test_large_images_are_downscaled_while_decoding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = cv2.resize(rng.integers(0, 255, (9, 16, 3), dtype=np.uint8), (640, 360), interpolation=cv2.INTER_CUBIC)
    file = write_video(tmp_path / "raw" / "a.mp4", [0, 400, 800, 1200], [large] * 4)
    whole, small = (next(video.frames_at(file, np.array([0.4]), 0.1, size)) for size in (None, (24, 32)))
    assert whole.shape == (360, 640, 3) and small.shape == (72, 128, 3)
    wrong = (fitted(whole, (24, 32), "crop").astype(float) - fitted(small, (24, 32), "crop")) ** 2
    assert 10 * np.log10(255**2 / wrong.mean()) > 40
    held_upright(file)
    store = prepared(tmp_path / "raw", hz=2.5)
    assert store.metadata["recorded_image_size"] == [640, 360], "upright"


def test_failing_device_falls_back_to_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_video(tmp_path / "a.mp4", 100 * np.arange(12))
    for device in ("cuda", "qsv"):
        monkeypatch.setattr(video, "hardware", lambda device=device: device)
        frames = list(video.frames_at(file, np.array([0.0, 0.3, 0.3, 1.1]), 0.01))
        assert [round(float(np.median(frame[..., 0])) / 5) for frame in frames] == [0, 3, 3, 11]
    assert np.abs(frames[3].astype(int) - shade(11)).max() < 8


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        file = write_video(tmp_path / "raw" / f"{k}.mp4", 100 * np.arange(24))
        write_csv(file.with_suffix(".csv"), "steering,throttle,brake,gear", [(0.1 * k, 0.5, 0, 1)] * 24)
    store = prepare("video", tmp_path / "raw", tmp_path / "store", (64, 64), workers=1)
    train_and_evaluate(store, tiny_config, tmp_path)
