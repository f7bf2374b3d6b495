"""CARLA recordings in all supported layouts: store contents of a known drive, and errors for malformed recordings."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from daydrive.data.quality.check import find_bad_rows
from daydrive.data.sources import read_options
from daydrive.data.sources.carla import CarlaSource, readings
from daydrive.data.store.store import Store
from daydrive.evaluation import EvaluateConfig
from daydrive.evaluation.pipeline import evaluate
from helpers.carla_waymo import steer, write_bench2drive, write_transfuser
from helpers.drives import write_drive
from helpers.recordings import Truth, columns, prepared, shown
from helpers.refusals import refused
from helpers.runs import run_training

CLIP = "Accident_Town03_Route101_Weather23"


def first_drive(store: Store) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    rows = store.drives[0].start + np.arange(store.drives[0].frames)
    return rows, columns(store, rows), store.read_actions(rows)


@pytest.mark.parametrize(
    ("layout", "hz"), [("bench2drive", 10.0), ("rgb", 2.0), ("rgb_front", 4.0), ("rgb", 10.0), ("rgb_front", 20.0)]
)
def test_frames_times_and_commands(layout: str, hz: float, tmp_path: Path) -> None:
    truth = Truth(50, hz=hz, seed=1)
    if layout == "bench2drive":
        write_bench2drive(tmp_path / "raw" / "v1" / CLIP, truth)
    else:
        write_transfuser(tmp_path / "raw" / "Town01" / "routes_town01_long", truth, image_folder=layout, gz=hz > 4)
    store = prepared("carla", tmp_path, size=(24, 32))
    rows, values, actions = first_drive(store)
    count = np.arange(len(rows))
    assert store.hz == hz and np.allclose(values["time"], count / hz) and np.array_equal(values["picture"], count)
    wrong = np.abs(shown(store, rows) - np.stack(truth.images((24, 32)))[count]).mean(axis=(1, 2, 3))
    assert wrong.max() < 6, "each row has the right image"
    assert np.allclose(actions[:, 0], steer(truth)[count], atol=1e-6), "the command until the next frame"
    assert np.allclose(actions[:, 1], count / 100) and np.allclose(actions[:, 2], count % 2)
    assert np.allclose(values["speed"], truth.at(truth.speed)[count]) and (actions[:, 3] == 1).all()
    turned = np.diff(np.unwrap(values["heading"])) * hz
    if hz >= 10:
        assert np.corrcoef(turned, actions[:-1, 0])[0, 1] > 0.95, "right is positive"
    if hz == 10:
        assert (actions[:-1, 0][turned < -0.3] < 0).all() and (turned < -0.3).any()
    assert not find_bad_rows(store)
    source = CarlaSource()
    (drive,) = source.drives(tmp_path / "raw", read_options(source, {}), (24, 32))
    assert drive.length == len(list(pickle.loads(pickle.dumps(drive)).frames())) == 50


def test_reverse_other_cameras_and_another_rate(tmp_path: Path) -> None:
    truth = Truth(40, hz=10.0, seed=2, backwards=True)
    write_bench2drive(tmp_path / "raw" / CLIP, truth)
    for camera in ("rgb_back", "back"):
        store = prepared("carla", tmp_path, size=(24, 32), camera=camera, hz=5)
        rows, _, actions = first_drive(store)
        wrong = np.abs(255 - shown(store, rows) - np.stack(truth.images((24, 32)))[::2][: len(rows)])
        assert wrong.mean() < 6 and store.hz == 5.0 and (actions[:, 3] == -1).all()
        assert np.allclose(actions[:-1, 0], (steer(truth)[0::2] + steer(truth)[1::2])[: len(rows) - 1] / 2, atol=1e-6)
    assert "--camera top: " in refused("carla", tmp_path, camera="top")
    assert "--camera ../anno: " in refused("carla", tmp_path, camera="../anno")


def test_stacked_views(tmp_path: Path) -> None:
    write_transfuser(tmp_path / "raw" / "routes_town01_w3_10_08_15_57_45", Truth(30, hz=10.0), image_folder="rgb_full")
    for camera, value in ((None, 0), ("front", 0), ("left", 50), ("rgb_right", 100), ("rear", 150)):
        store = prepared("carla", tmp_path, size=(24, 32), camera=camera)
        assert abs(shown(store, np.arange(2)) - value).max() < 3 and store.metadata["recorded_image_size"] == [24, 32]


def test_gap_in_the_numbers_splits_the_drive(tmp_path: Path) -> None:
    route = write_transfuser(tmp_path / "raw" / "r", Truth(60, hz=10.0), first=7)
    for number in range(40, 46):
        (route / f"rgb/{number:04d}.jpg").unlink()
        (route / f"measurements/{number:04d}.json").unlink()
    (route / "rgb/0066.jpg").unlink()
    store = prepared("carla", tmp_path, size=(8, 8))
    assert {d.name.rsplit(".", 1)[0] for d in store.drives} == {"r.0", "r.1"}
    numbers = store.read_values(np.arange(store.rows), ["picture"])["picture"]
    assert numbers.min() == 7 and numbers.max() == 65 and not ((numbers >= 40) & (numbers < 46)).any()


def test_road_is_in_one_split_in_any_weather(tmp_path: Path) -> None:
    for k, town in enumerate(("Town03", "Town04", "Town05")):
        for weather in (1, 23):
            folder = tmp_path / "raw" / f"Accident_{town}_Route10{k}_Weather{weather}"
            write_bench2drive(folder, Truth(12, hz=10.0, seed=k), (8, 8))
    for split in ("by-route", "by-town"):
        splits = {d.name: d.split for d in prepared("carla", tmp_path, size=(8, 8), split=split).drives}
        for k, town in enumerate(("Town03", "Town04", "Town05")):
            name = f"Accident_{town}_Route10{k}_Weather"
            assert splits[f"{name}1"] == splits[f"{name}23"]
        assert sorted(splits.values()) == ["test"] * 2 + ["train"] * 2 + ["val"] * 2
    assert "--split random: must be by-route or by-town" in refused("carla", tmp_path, split="random")


def test_group_and_town_from_route_names(tmp_path: Path) -> None:
    from daydrive.data.sources.carla.leaderboard import LeaderboardRoute

    for path, group, town in (
        ("Town01/routes_town01_long_w12_08_13_03_12_20", "routes_town01_long", "Town01"),
        ("Town02/routes_town02_tiny_w3_10_08_15_57_45", "routes_town02_tiny", "Town02"),
        ("v1/ParkingExit_Town12_Route1305_Weather14", "ParkingExit_Town12_Route1305", "Town12"),
        ("ll/Town10HD_Scenario3_route7_10_08_19_35_53", "Town10HD_Scenario3_route7", "Town10HD"),
        ("weather-0/data/mine", "mine", None),
    ):
        route = LeaderboardRoute(tmp_path, tmp_path / path, 10.0)
        assert (route.group, route.town) == (group, town), path


def test_rate_of_standing_cars_is_required(tmp_path: Path) -> None:
    route = write_transfuser(tmp_path / "raw" / "r", Truth(30, hz=10.0))
    for file in (route / "measurements").iterdir():
        file.write_text(json.dumps({**json.loads(file.read_text()), "speed": 0.0}))
    assert "the frame rate cannot be estimated (the car never moves" in refused("carla", tmp_path)
    assert prepared("carla", tmp_path, size=(8, 8), recorded_hz=2).hz == 2.0
    for file in (route / "measurements").iterdir():
        file.write_text(json.dumps({**json.loads(file.read_text()), "speed": 30.0}))
    assert "(speed over distance gives 26" in refused("carla", tmp_path)


def test_training_and_evaluation(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        write_bench2drive(tmp_path / "raw" / f"é S_Town0{k}_Route{k}_Weather1", Truth(30, hz=10.0, seed=k))
    store = prepared("carla", tmp_path, size=(64, 64), fit="crop")
    run = tmp_path / "run"
    assert run_training(tiny_config, store.path, run, "training.max_steps=2", "training.gradient_accumulation=1") == 0
    assert evaluate(run, store.path, tmp_path / "evaluation", EvaluateConfig(split="test", horizon=3, clips=4))


Spoil = Callable[[Path], object]
IMAGE, MEASUREMENT = "rgb/0007.jpg", "measurements/0007.json"


def measured(**changes: object) -> Spoil:
    def apply(route: Path) -> None:
        found = {**json.loads((route / MEASUREMENT).read_text()), **changes}
        (route / MEASUREMENT).write_text(json.dumps({key: value for key, value in found.items() if value != "gone"}))

    return apply


def write(name: str, data: bytes) -> Spoil:
    return lambda route: (route / name).write_bytes(data)


def zipped(data: bytes) -> Spoil:
    def apply(route: Path) -> None:
        (route / MEASUREMENT).unlink()
        (route / f"{MEASUREMENT}.gz").write_bytes(data)

    return apply


def link(name: str) -> Spoil:
    def apply(route: Path) -> None:
        outside = route.parents[1] / "elsewhere"
        shutil.move(route / name, outside)
        (route / name).symlink_to(outside)

    return apply


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (write(MEASUREMENT, b""), "0007.json: not JSON"),
        (write(MEASUREMENT, b'{"steer": 0.1, '), "0007.json: not JSON"),
        (write(MEASUREMENT, b"[1, 2]"), "0007.json: a list, expected a JSON object"),
        (write(MEASUREMENT, b"[" * 100_000), "0007.json: not JSON"),
        (write(MEASUREMENT, b"\x80\x05\xff"), "0007.json: not JSON"),
        (measured(steer="gone"), "0007.json has no 'steer'"),
        (measured(steer=float("nan")), "0007.json: steer is 'nan', expected a finite number"),
        (measured(steer="left"), "0007.json: steer is 'left', expected a finite number"),
        (measured(steer=-35.0), "0007.json: steer is -35, outside [-1, 1]"),
        (measured(brake=None), "0007.json: brake is 'None', expected a finite number"),
        (measured(throttle=-0.7), "0007.json: throttle is -0.7, outside [0, 1]"),
        (zipped(b"not gzip"), "0007.json.gz cannot be read"),
        (zipped(gzip.compress(b'{"steer": 0}')[:-9]), "0007.json.gz cannot be read"),
        (zipped(gzip.compress(b"{" + b" " * 3_000_000)), "0007.json.gz exceeds the limit of 2 MiB"),
        (lambda r: shutil.copy(r / IMAGE, r / "rgb/7.jpg"), "both have number 7; remove one of them"),
        (lambda r: (r / IMAGE).unlink(), "0007.json and 0 other files have no counterpart in"),
        (lambda r: (r / MEASUREMENT).unlink(), "0007.jpg and 0 other files have no counterpart in"),
        (
            lambda r: [f.unlink() for f in sorted((r / "measurements").iterdir())[10:]],
            "0010.jpg and 19 other files have no counterpart in",
        ),
        (lambda r: [f.unlink() for f in (r / "measurements").iterdir()], "has 0 images in rgb/ with a measurement in"),
        (lambda r: shutil.rmtree(r / "rgb"), "has no images (rgb_front/); its image folders: none"),
        (lambda r: shutil.rmtree(r / "measurements"), "has no CARLA recordings; a recording has"),
        (write(IMAGE, b""), "0007.jpg is empty (0 bytes)"),
        (lambda r: os.truncate(r / IMAGE, 300), "0007.jpg is a damaged JPEG"),
        (link(IMAGE), "0007.jpg is a link out of the data root"),
        (link(MEASUREMENT), "0007.json is a link out of the data root"),
        (link("rgb"), "rgb is a link out of the data root"),
        (lambda r: write_bench2drive(r.parent / CLIP, Truth(12, hz=10.0)), "mixes layouts, "),
    ],
)
def test_malformed(spoil: Spoil, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "LARGEST_JSON", 2 << 20)
    spoil(write_transfuser(tmp_path / "raw" / "déjà vu", Truth(30, hz=10.0), (8, 8)))
    message = refused("carla", tmp_path)
    assert expected in message, message


def write_own_recording(root: Path) -> Path:
    rows = [f"0.1,0.5,0,1,{k / 10},5,{k},{k},90" for k in range(20)]
    drive = write_drive(root / "drive_00000", 20, rows, "steering,throttle,brake,gear,time,speed,x,y,yaw")
    (drive / "drive.json").write_text('{"town": "Town01"}')
    return drive


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (write("drive.json", b"{"), "drive.json: not JSON"),
        (lambda d: (d / "drive.json").write_text("{}"), "drive_00000 is unknown; use by-route"),
        (lambda d: shutil.rmtree(d / "images"), "is not a recording: it has no images/"),
        (lambda d: (d / "images/f3.png").unlink(), "actions.csv has 20 rows for the 19 images in"),
        (lambda d: (d / "actions.csv").write_text("steering,throttle\n0,0\n"), "row 1: there is no column 'brake'"),
        (lambda d: (d / "actions.csv").write_bytes((d / "actions.csv").read_bytes()[:200]), "actions.csv, row"),
        (
            lambda d: (d / "actions.csv").write_text((d / "actions.csv").read_text().replace("0.5,5", "0.3,5")),
            "row 7: time 0.3 is not after 0.4",
        ),
        (
            lambda d: (d / "actions.csv").write_text((d / "actions.csv").read_text().replace(",4,90", ",,90")),
            "row 6: y is '', expected a number",
        ),
        (lambda d: write_bench2drive(d.parent / CLIP, Truth(12, hz=10.0)), "mixes layouts, Bench2Drive"),
    ],
)
def test_malformed_own_recordings(spoil: Spoil, expected: str, tmp_path: Path) -> None:
    spoil(write_own_recording(tmp_path / "raw"))
    message = refused("carla", tmp_path, split="by-town")
    assert expected in message, message
