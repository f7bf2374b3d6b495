"""The doctor finds planted faults with their kind and size, and nothing in sound drives."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.doctor.cache import diagnosis, load_findings, save_diagnosis
from daydrive.data.quality.doctor.examine import diagnose, examine, examine_quickly
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.motion import SIDE, pyramid, shift
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.training.checks.static_checks import check_store_quality
from helpers.doctor import CAMERA, STEERING, Recordings, one, without_notes
from helpers.paths import SHARED
from helpers.planted_faults import (
    Fault,
    column,
    delayed_images,
    faulted_store,
    images_of,
    in_all,
    in_one,
    mirrored,
    steering,
    thinned,
    with_images,
)

DEGREES = 180 / np.pi


def test_sound_drives_have_no_findings(recordings: Recordings) -> None:
    assert not without_notes(diagnose(recordings.drives))
    assert not without_notes(examine_quickly(recordings.store))


def test_image_motion_is_measured() -> None:
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (SIDE, 2 * SIDE)).astype(np.float32), (0, 0), 2.0)
    for pixels in (-5, 0, 3):
        before, after = wide[:, 32 : 32 + SIDE], wide[:, 32 - pixels : 32 - pixels + SIDE]
        assert shift(pyramid(before), pyramid(after)).right * SIDE == pytest.approx(pixels, abs=0.1)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "drive"])
@pytest.mark.parametrize(
    ("fault", "codes"), [(steering(np.negative), STEERING), (mirrored, CAMERA)], ids=["inverted", "mirrored"]
)
def test_inverted_steering_and_mirrored_camera(
    recordings: Recordings, whole: bool, fault: Fault, codes: set[str]
) -> None:
    drives, index = recordings.drives, recordings.index
    finding = one(in_all(drives, fault) if whole else in_one(drives, index, fault), *codes)
    assert finding.severity == "fatal" and finding.whole == whole and finding.rows
    assert whole or finding.drives == (drives[index].name,)
    if recordings.store.source == "road":  # its curvature decides between the two
        assert finding.code != "steering-or-camera"


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "drive"])
@pytest.mark.parametrize("frames", [-5, -3, 3, 6])
def test_lag(recordings: Recordings, whole: bool, frames: int) -> None:
    fault, drives, index = delayed_images(frames), recordings.drives, recordings.index
    finding = one(in_all(drives, fault) if whole else in_one(drives, index, fault), "lag")
    assert finding.size == pytest.approx(frames, abs=1.0) and finding.whole == whole
    assert (finding.severity == "fatal") == (frames < 0 or frames == 6) and finding.curve is not None


def scaled(factor: float) -> Fault:
    return steering(lambda values: np.clip(values * factor, -1, 1))


@pytest.mark.parametrize("factor", [DEGREES, 1 / DEGREES, 0.4])
def test_scale_of_the_steering(recordings: Recordings, factor: float) -> None:
    drives, index = recordings.drives, recordings.index
    found = [f for f in in_one(drives, index, scaled(factor)) if f.code not in ("saturated", "unbalanced")]
    finding = one(found, "steering-scale")
    assert finding.size == pytest.approx(factor, rel=0.2) and finding.drives == (drives[index].name,)
    assert finding.severity == "fatal"
    if factor != 0.4:  # against other drives alone
        found = [f for f in in_all(drives, scaled(factor)) if f.code not in ("saturated", "unbalanced")]
        finding = one(found, "steering-scale")
        assert finding.size == pytest.approx(factor, rel=0.2) and finding.whole
        assert "degrees" in finding.message


@pytest.mark.parametrize("factor", [3.6, 1 / 3.6])
def test_scale_of_the_speed(recordings: Recordings, factor: float) -> None:
    drives, index = recordings.drives, recordings.index
    fault = column("speed", lambda speed: speed * factor)
    finding = one(in_one(drives, index, fault), "speed-scale")
    assert finding.size == pytest.approx(factor, rel=0.2) and "km/h" in finding.message
    if factor > 1:  # accelerations that no tyre holds
        finding = one(in_all(drives, fault), "speed-scale")
        assert finding.size == pytest.approx(factor, rel=0.2) and finding.whole


@pytest.mark.parametrize(("factor", "code"), [(3.6, "speed-scale"), (0.5, "frame-rate")])
def test_speed_against_positions(road: Recordings, factor: float, code: str) -> None:
    def with_positions(drive: DriveFeatures) -> DriveFeatures:
        speed = drive.values["speed"]
        values = {**drive.values, "x": np.cumsum(speed) / drive.hz, "y": np.zeros(len(drive))}
        return replace(drive, values={**values, "speed": speed * factor})

    found = [f for f in in_all(road.drives, with_positions) if not f.code.startswith("leak")]
    size = one(found, code).size
    assert size == pytest.approx(factor if code == "speed-scale" else 1 / factor, rel=0.02)


def test_every_third_frame_at_an_unchanged_rate(recordings: Recordings) -> None:
    finding = one(in_one(recordings.drives, recordings.index, thinned(3)), "frame-rate")
    assert finding.size == pytest.approx(3, rel=0.2)


def test_rate_that_contradicts_the_timestamps(recordings: Recordings) -> None:
    for found in (
        in_all(recordings.drives, column("time", lambda time: time * 2)),
        in_one(recordings.drives, recordings.index, column("time", lambda time: time * 2)),
    ):
        finding = one(found, "frame-rate")
        assert finding.size == pytest.approx(2.0) and finding.severity == "fatal"


def test_clock_jumps_and_missing_frames(recordings: Recordings) -> None:
    drives, index, hz = recordings.drives, recordings.index, recordings.store.hz

    def gap(time: np.ndarray) -> np.ndarray:
        time[40:] += 7 / hz
        return time

    def back(time: np.ndarray) -> np.ndarray:
        time[60:] -= 5.0
        return time

    finding = one(in_one(drives, index, column("time", gap)), "dropped-frames")
    assert (finding.size, finding.frames) == (pytest.approx(7), (39, 40))
    finding = one(in_one(drives, index, column("time", back)), "clock-jumps")
    assert finding.frames == (59, 60) and finding.severity == "fatal"


def test_missing_frames_show_in_a_counter(udacity: Recordings) -> None:
    def gap(row: np.ndarray) -> np.ndarray:
        row[50:] += 30
        return row

    finding = one(in_one(udacity.drives, udacity.index, column("row", gap)), "dropped-frames")
    assert finding.frames == (49, 50) and finding.size == pytest.approx(30, abs=2)


def spoil(at: slice, value: float) -> Fault:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[at] = value
        return values

    return steering(change)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(recordings: Recordings, value: float) -> None:
    finding = one(in_one(recordings.drives, recordings.index, spoil(slice(30, 33), value)), "not-finite")
    assert finding.frames == (30, 32) and finding.size == 3 and finding.severity == "fatal"


def test_out_of_range_saturated_stuck_and_constant(recordings: Recordings) -> None:
    drives, index = recordings.drives, recordings.index
    found = in_one(drives, index, spoil(slice(20, 22), 7.0))
    assert {f.code for f in found if f.severity == "fatal"} >= {"out-of-range"}
    found = in_one(drives, index, spoil(slice(20, None), 1.0))
    assert {f.code for f in without_notes(found)} == {"saturated"}
    found = in_one(drives, index, spoil(slice(20, 80), 0.31))
    (stuck,) = (f for f in found if f.code == "stuck")
    assert stuck.size == pytest.approx(60, abs=1) and stuck.drives == (drives[index].name,)
    for value in (0.0, 0.3):
        finding = next(f for f in in_all(drives, spoil(slice(None), value)) if f.code == "constant")
        assert finding.whole and finding.size == pytest.approx(value)
    assert "constant" in {f.code for f in in_one(drives, index, spoil(slice(None), 0.0))}


def test_unbalanced_and_short(road: Recordings) -> None:
    found = in_all(road.drives, steering(lambda values: values * 0.02))
    assert next(f for f in found if f.code == "unbalanced").severity == "warning"
    found = in_all(road.drives, steering(np.abs))
    assert any("right" in f.message for f in found if f.code == "unbalanced")
    short = thinned(20)(road.drive)
    found = diagnose([*road.drives[: road.index], short, *road.drives[road.index + 1 :]])
    assert next(f for f in found if f.code == "short-drive").size == 5


def test_frozen_and_repeated_images(recordings: Recordings) -> None:
    images = images_of(recordings.store, recordings.drive)
    frozen, repeated = images.copy(), images.copy()
    frozen[40:52] = images[40]
    repeated[1::2] = images[: len(images) // 2 * 2 : 2]
    finding = one(in_one(recordings.drives, recordings.index, lambda d: with_images(d, frozen)), "frozen-frames")
    assert finding.size == 12 and finding.frames == (40, 51)
    found = in_one(recordings.drives, recordings.index, lambda d: with_images(d, repeated))
    assert next(f for f in found if f.code == "repeated-frames").size == pytest.approx(0.5, abs=0.1)


def test_black_overexposed_blank_and_blurred_images(recordings: Recordings) -> None:
    images = images_of(recordings.store, recordings.drive)
    for code, spoilt in {
        "black": images[50:56] // 60,
        "overexposed": np.minimum(images[50:56].astype(int) + 245, 255).astype(np.uint8),
        "blank": np.full_like(images[50:56], 120),
        "blurred": np.stack([cv2.GaussianBlur(image, (0, 0), 1.8) for image in images[50:56]]),
    }.items():
        planted = images.copy()
        planted[50:56] = spoilt
        finding = one(in_one(recordings.drives, recordings.index, lambda d, p=planted: with_images(d, p)), code)
        assert finding.frames == (50, 55) and finding.size == 6, code


def test_red_and_blue_swapped(recordings: Recordings) -> None:
    def swapped(drive: DriveFeatures) -> DriveFeatures:
        return replace(drive, blueness=-drive.blueness)

    images = images_of(recordings.store, recordings.drive)[..., ::-1]
    assert np.allclose(with_images(recordings.drive, images[:5]).blueness, -recordings.drive.blueness[:5], atol=0.01)
    assert one(in_all(recordings.drives, swapped), "colours-swapped").whole
    assert one(in_one(recordings.drives, recordings.index, swapped), "colours-swapped").drives == (
        recordings.drive.name,
    )


def test_same_images_and_locations_in_two_splits(recordings: Recordings) -> None:
    drives = recordings.drives
    train = max((drive for drive in drives if drive.split == "train"), key=len)
    copy = replace(train, split="val", start=10**6, name="copy")
    finding = one(diagnose([*drives, copy]), "leak")
    assert finding.drives == ("copy",) and finding.size > 0.3

    def located(drive: DriveFeatures, x: float) -> DriveFeatures:
        x_positions = x + np.arange(len(drive), dtype=float)
        return replace(drive, values={**drive.values, "x": x_positions, "y": np.zeros(len(drive))})

    apart = [located(drive, 10_000.0 * k) for k, drive in enumerate(drives)]
    assert not [f for f in diagnose(apart) if f.code.startswith("leak")]
    same = [located(drive, 0.0) if drive.split in ("train", "val") else apart[k] for k, drive in enumerate(drives)]
    finding = next(f for f in diagnose(same) if f.code == "leak-place")
    assert finding.unit == "share of val" and finding.size > 0.5 and finding.severity == "warning"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_command_reports_and_training_refuses(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damage(columns: dict[str, list]) -> None:
        columns["image"][3] = columns["image"][3][:60]
        columns["action"][20] = [float("nan"), 0.0, 0.0, 1.0]

    store = faulted_store(small_store, tmp_path / "bad", damage)
    opened = Store.open(store)
    (checked, *_) = [f.code for f in examine_quickly(opened)]
    assert checked == "not-finite"
    assert run(monkeypatch, "data", "doctor", store, "--output", tmp_path / "report") == 3
    out = capsys.readouterr().out
    assert "corrupt-picture" in out and "not-finite" in out and "fix:" in out
    content = json.loads((tmp_path / "report" / "doctor.json").read_text())
    assert content == json.loads((store / "doctor.json").read_text())
    assert content["worst"] == "fatal" and {f["code"] for f in content["findings"]} >= {"corrupt-picture", "not-finite"}
    page = (tmp_path / "report" / "doctor.html").read_text()
    assert "data:image/jpeg;base64," in page and "corrupt-picture" in page and "http" not in page
    assert [f.code for f in load_findings(opened) or []] == [f["code"] for f in content["findings"]]
    with pytest.raises(UserError, match=r"fatal error: .*; `daydrive data doctor .*` lists all .*--allow-faults"):
        list(check_store_quality(opened, allowed=False))
    assert [check.outcome for check in check_store_quality(opened, allowed=True)] == ["warning"]
    (store / "doctor.json").unlink()
    with pytest.raises(UserError, match="steering is not a finite number"):
        list(check_store_quality(opened, allowed=False))
    save_diagnosis(store, diagnosis(opened, []))
    assert [check.outcome for check in check_store_quality(opened, allowed=False)] == ["ok"]
    save_diagnosis(store, {**diagnosis(opened, []), "fingerprint": "another"})
    assert load_findings(opened) is None
    save_diagnosis(store, {**diagnosis(opened, []), "criteria": 1})
    assert load_findings(opened) is None, "older criteria refused right data"
    assert run(monkeypatch, "data", "doctor", tmp_path / "nothing") == 2


def test_train_refuses_fatal_faults_unless_allowed(
    road_store: Path, tiny_config: Path, tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def wide(columns: dict[str, list]) -> None:
        columns["action"][-1] = [5.0, 0.0, 0.0, 1.0]

    store = faulted_store(road_store, tmp_path / "wide", wide)
    train = ("train", "--config", tiny_config, "--data-root", store, "--device", "cpu", "--dry-run")
    assert run(monkeypatch, *train) == 2
    stderr = capsys.readouterr().err
    assert "steering is outside [-1, 1] in 1 frame of" in stderr and "--allow-faults trains anyway" in stderr
    assert stderr.count("\n") == 1 and not list(here.iterdir())
    assert run(monkeypatch, *train, "--allow-faults") == 0
    assert "out-of-range" in capsys.readouterr().out


def test_exit_codes_of_a_sound_store_and_of_warnings(
    road: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def freeze(columns: dict[str, list]) -> None:
        columns["image"][30:45] = [columns["image"][30]] * 15

    bad = faulted_store(road.store.path, tmp_path / "frozen", freeze)
    assert run(monkeypatch, "data", "doctor", bad) == 1
    assert "the image is frozen for 15 frames" in capsys.readouterr().out
    monkeypatch.setattr("daydrive.data.quality.doctor.examine.find_bad_rows", lambda *_: [])
    assert run(monkeypatch, "data", "doctor", road.store.path, "--output", tmp_path / "fine") == 0
    assert "nothing was found" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_no_findings_in_other_roads(tmp_path: Path, seed: int) -> None:
    store = prepare("road", None, tmp_path / "road", (64, 64), drives=12, frames=100, seed=seed, workers=1)
    assert not without_notes(examine(Store.open(store)))


@pytest.mark.slow
@pytest.mark.parametrize(("source", "options"), [("udacity", {}), ("udacity", {"hz": 5.0}), ("kitti", {})])
def test_no_findings_in_recordings(tmp_path: Path, source: str, options: dict[str, float]) -> None:
    folder = SHARED / {"udacity": "udacity_track", "kitti": "kitti_odometry"}[source]
    if not folder.is_dir():
        pytest.skip(f"there is no recording {folder}")
    store = prepare(source, folder, tmp_path / "store", (64, 128), workers=1, **options)
    assert not without_notes(examine(Store.open(store)))
