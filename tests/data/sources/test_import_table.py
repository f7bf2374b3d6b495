"""`daydrive data import-table` and the source `table`: guesses, the mapping that is written, and its store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from daydrive import cli
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.sources.mapped.columns import read_table
from daydrive.data.table_import import import_table
from daydrive.data.table_import.guess import guess_columns
from helpers.open_formats import train_and_evaluate
from helpers.recordings import Truth, columns, prepared, shown
from helpers.refusals import refused, refuses
from helpers.tables import SIZE, signals, write_drive_video, write_images, write_table

TRUTH = Truth(120, hz=10.0, seed=2, start=0.0)
SIGNALS = signals(TRUTH)
CSV = {
    "t_ms": 1000 * TRUTH.times, "WheelAngle_deg": -15 * np.degrees(SIGNALS["steering"]),
    "gas_percent": 100 * SIGNALS["throttle"],
    "brake": SIGNALS["brake"], "vehicleSpeed_kmh": 3.6 * SIGNALS["speed"], "temperature": 20 + 0 * TRUTH.times,
}  # fmt: skip
"""Degrees at the steering wheel, positive to the left; percent; km/h."""


def imported(file: Path, images: Path | None = None, **given: str) -> dict[str, object]:
    """The mapping that is written for a table."""
    found = import_table(file, images, given, None, overwrite=False)
    return dict(yaml.safe_load(found.file.read_text()))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])
def test_from_a_table_to_a_store(suffix: str, tmp_path: Path) -> None:
    if suffix == ".h5":
        pytest.importorskip("h5py")
    write_images(tmp_path / "raw/a/frames", TRUTH)
    mapping = imported(write_table(tmp_path / f"raw/a/log{suffix}", CSV))
    assert mapping["time"] == {"column": "t_ms", "scale": 0.001} and mapping["images"] == "frames"
    assert mapping["steering"]["column"] == "WheelAngle_deg"
    assert mapping["steering"]["scale"] == pytest.approx(-1 / 90), "the images tell that it is positive to the left"
    assert mapping["throttle"] == {"column": "gas_percent", "scale": 0.01} and mapping["brake"] == {"column": "brake"}
    assert mapping["speed"]["scale"] == pytest.approx(1 / 3.6) and "gear" not in mapping
    store = prepared("table", tmp_path, size=SIZE)
    assert store.hz == 10.0 and not find_bad_rows(store)
    rows = np.arange(store.rows)
    values, actions = columns(store, rows), store.read_actions(rows)
    frames = np.round(values["recorded_time"] * 10).astype(int)
    wrong = np.abs(shown(store, rows) - np.stack(TRUTH.images(SIZE))[frames]).mean(axis=(1, 2, 3))
    assert wrong.max() < 6, "each row has its image"
    assert np.abs(actions[:, 0] - np.clip(np.degrees(SIGNALS["steering"]) / 6, -1, 1)[frames]).max() < 1e-5
    assert np.abs(actions[:, 1] - SIGNALS["throttle"][frames]).max() < 1e-6
    assert np.abs(actions[:, 2] - SIGNALS["brake"][frames]).max() < 1e-6 and (actions[:, 3] == 1).all()
    assert np.abs(values["speed"] - SIGNALS["speed"][frames]).max() < 1e-6
    assert np.allclose(values["recorded_throttle"], 100 * SIGNALS["throttle"][frames])
    assert store.metadata["drives"][0]["made_from"]["steering"] == "WheelAngle_deg"


@pytest.mark.parametrize("epoch", [0.0, 1_700_000_000.0])
def test_a_video_with_a_table_of_another_rate(epoch: float, tmp_path: Path) -> None:
    write_drive_video(tmp_path / "raw/drive.mp4", TRUTH)
    times = np.arange(0.0, 11.9, 0.02)
    read = signals(TRUTH, times)
    table = {
        "timestamp": (epoch + times) * 1e6,
        "steer": read["steering"] / 0.5,
        "throttle": read["throttle"] - read["brake"],
    }
    mapping = imported(write_table(tmp_path / "raw/can.parquet", table))
    assert mapping["time"]["scale"] == pytest.approx(1e-6) and mapping["time"].get("offset", 0.0) == epoch
    assert mapping["steering"] == {"column": "steer"} and "brake" not in mapping
    store = prepared("table", tmp_path, size=SIZE)
    drive = store.drives[0]
    rows = drive.start + np.arange(drive.frames - 1)
    frames = np.round(columns(store, rows)["recorded_time"] * 10).astype(int)
    edges = TRUTH.times[np.append(frames, frames[-1] + 1)]
    actions = store.read_actions(rows)
    assert np.abs(actions[:, 0] - TRUTH.mean(TRUTH.wheel, edges) / 0.5).max() < 0.01
    assert np.abs(actions[:, 2] - SIGNALS["brake"][frames]).max() < 0.03


def test_images_named_in_a_column_in_another_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(120)
    names = [f"frame{order[k]:03d}.png" for k in range(120)]
    write_images(tmp_path / "raw/IMG", TRUTH, names)
    table = {
        "image": [f"C:\\data\\IMG\\{name}" for name in names],
        "steering": SIGNALS["steering"],
        "throttle": SIGNALS["throttle"],
    }
    mapping = imported(write_table(tmp_path / "raw/log.csv", table, ";"))
    assert mapping["image_column"] == "image"
    store = prepared("table", tmp_path, size=SIZE, hz=10)
    rows = np.arange(store.drives[0].frames)
    wrong = np.abs(shown(store, rows) - np.stack(TRUTH.images(SIZE))[: len(rows)]).mean(axis=(1, 2, 3))
    assert wrong.max() < 6 and np.allclose(store.read_actions(rows)[:, 0], SIGNALS["steering"][: len(rows)], atol=1e-6)


def test_images_named_by_their_time(tmp_path: Path) -> None:
    start = 1_700_000_000.0
    write_images(tmp_path / "raw/images", TRUTH, [f"{round((start + t) * 1e9)}.png" for t in TRUTH.times])
    times = np.arange(0.0, 11.9, 0.05)
    table = {
        "time": [f"2023-11-14T22:13:{20 + t:09.6f}+00:00" for t in times],
        "steering": signals(TRUTH, times)["steering"],
    }
    mapping = imported(write_table(tmp_path / "raw/log.csv", table))
    assert mapping["image_time_scale"] == 1e-9 and mapping["time"] == {"column": "time", "scale": 1.0}
    store = prepared("table", tmp_path, size=SIZE)
    rows = np.arange(store.drives[0].frames)
    expected = np.stack(TRUTH.images(SIZE))[np.round((columns(store, rows)["recorded_time"] - start) * 10).astype(int)]
    assert np.abs(shown(store, rows) - expected).mean(axis=(1, 2, 3)).max() < 6


def test_one_mapping_for_several_recordings(tmp_path: Path, tiny_config: Path) -> None:
    for k in range(3):
        truth = Truth(40, hz=10.0, seed=k, start=0.0)
        write_images(tmp_path / f"raw/day{k}/images", truth, size=(64, 64))
        read = signals(truth)
        write_table(
            tmp_path / f"raw/day{k}/log.csv",
            {"time": truth.times, **{n: read[n] for n in ("steering", "throttle", "brake")}},
        )
    import_table(tmp_path / "raw/day0/log.csv", None, {}, tmp_path / "raw/mapping.yaml", overwrite=False)
    store = prepare("table", tmp_path / "raw", tmp_path / "store", (64, 64), workers=1)
    train_and_evaluate(store, tiny_config, tmp_path)


def test_steering_is_found_by_the_images(tmp_path: Path) -> None:
    write_images(tmp_path / "raw/images", TRUTH)
    noise = np.random.default_rng(1).normal(size=120)
    table = {"a": noise, "ch1": -SIGNALS["steering"] * SIGNALS["speed"], "ch2": SIGNALS["throttle"]}
    mapping = imported(write_table(tmp_path / "raw/log.csv", table))
    assert mapping["steering"]["column"] == "ch1" and mapping["steering"]["scale"] < 0


def test_columns_of_any_type(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rows = pa.table({
        "flag": [True, False, True], "share": [Decimal("0.5")] * 3, "nested": [{"x": 1.0, "y": {"z": 2}}] * 3,
        "time": pa.array([datetime(2024, 1, 1, second=k) for k in range(3)], pa.timestamp("ms")),
        "action": [[1, 2]] * 3, "count": [1, None, 3], "text": ["a", None, "c"], "uneven": [[], [1], [2, 3]],
    })  # fmt: skip
    pq.write_table(rows, tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    expected = {"flag": [1, 0, 1], "share": [0.5] * 3, "nested.x": [1] * 3, "nested.y.z": [2] * 3, "action.0": [1] * 3,
                "action.1": [2] * 3, "time": [1704067200.0, 1704067201.0, 1704067202.0]}  # fmt: skip
    found = {name: values.tolist() for name, values in table.numbers.items() if name != "count"}
    assert found == expected and table.texts == {"text": ["a", "", "c"]}
    assert np.array_equal(table.numbers["count"], [1, np.nan, 3], equal_nan=True)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["car/wheel"], file["pose"], file["names"] = np.arange(5), np.zeros((5, 2)), np.array([b"x"] * 5)
        file["images"], file["settings"], file["long"] = np.zeros((5, 4, 4, 3), np.uint8), 3, np.arange(9)
        file["can"] = np.array([(1, 2.0)] * 5, dtype=[("a", "i4"), ("b", "f8")])
    table = read_table(tmp_path / "a.h5")
    assert set(table.names) == {"car/wheel", "pose.0", "pose.1", "names", "can.a", "can.b"} and table.rows == 5


COUNT = np.arange(50)


@pytest.mark.parametrize(
    ("name", "values", "quantity", "unit", "scale"),
    [
        ("timestamp", 1.7e9 + COUNT / 10, "time", "s since 1970", 1.0),
        ("timestamp", 1.7e12 + 100 * COUNT, "time", "ms since 1970", 1e-3),
        ("Time (us)", 1.7e15 + 1e5 * COUNT, "time", "µs since 1970", 1e-6),
        ("header.stamp", 1.7e18 + 1e8 * COUNT, "time", "ns since 1970", 1e-9),
        ("t", COUNT / 10, "time", "s", 1.0),
        ("time_ms", 50 * COUNT, "time", "ms", 1e-3),
        ("steering", COUNT / 49 - 0.5, "steering", "share of the largest angle", 1.0),
        ("steer_rad", COUNT / 49 - 0.5, "steering", "rad at the front wheels", 2.0),
        ("SteeringAngle", COUNT / 10 - 2.5, "steering", "rad at the steering wheel", 2 / np.pi),
        ("steering_wheel_angle", 8.0 * COUNT - 200, "steering", "degrees at the steering wheel", 1 / 90),
        ("steer_deg", COUNT - 25.0, "steering", "degrees at the front wheels", np.radians(1) / 0.5),
        ("steering_pwm", 1000.0 + 20 * COUNT, "steering", "pulse width in µs, centre 1500", 1 / 500),
        ("throttle", COUNT / 49, "throttle", "share", 1.0),
        ("GasPedal", 2.0 * COUNT, "throttle", "percent", 0.01),
        ("accelerator", 5.0 * COUNT, "throttle", "of 255", 1 / 255),
        ("brake_pressure", 3.7 * COUNT, "brake", "unknown, scaled by its largest value 181.3", 1 / 181.3),
        ("speed_mph", COUNT * 1.0, "speed", "mph", 0.44704),
        ("velocity", COUNT * 2.0, "speed", "km/h", 1 / 3.6),
        ("v", COUNT / 4, "speed", "m/s", 1.0),
    ],
)  # fmt: skip
def test_units(name: str, values: np.ndarray, quantity: str, unit: str, scale: float, tmp_path: Path) -> None:
    table = read_table(
        write_table(tmp_path / "log.csv", {name: values, "steering_rate": 0.1 * COUNT, "lap": COUNT // 9})
    )
    guess = guess_columns(table, {})[quantity]
    assert (guess.column, guess.unit) == (name, unit) and guess.scale == pytest.approx(scale)


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "raw/frames", TRUTH)
    file = write_table(tmp_path / "raw/log.csv", CSV)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["daydrive", "data", "import-table", str(file), "--brake", "brake"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr().out
    assert not ended.value.code and "temperature" in printed and "degrees at the steering wheel" in printed
    assert "turn with the steering (correlation 0.9" in printed and "Its sign was inverted." in printed
    chart = (tmp_path / "raw/mapping.svg").read_text()
    assert chart.startswith("<svg") and chart.count("<path") >= 5 and "turn of the images" in chart
    text = (tmp_path / "raw/mapping.yaml").read_text()
    assert (
        text.startswith("# Written by `daydrive data import-table`") and "# steering: degrees at the steering" in text
    )


def test_what_is_not_certain_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images without texture, a column with an empty cell, and no time."""
    (tmp_path / "images").mkdir()
    for k in range(40):
        cv2.imwrite(str(tmp_path / f"images/{k}.png"), np.full((16, 16, 3), 90, np.uint8))
    brake = np.where(np.arange(40) == 7, np.nan, 0.5)
    file = write_table(tmp_path / "log.csv", {"steering": np.sin(np.arange(40) / 3), "brake": brake})
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["daydrive", "data", "import-table", str(file)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr().out
    assert not ended.value.code and "leave the sign of the steering open (correlation nan)" in printed
    assert "The column 'brake' is not used: row 9 has no finite number." in printed
    assert "the rate is 10 frames per second unless prepare-dataset sets --hz" in printed
    assert yaml.safe_load((tmp_path / "mapping.yaml").read_text()).keys() == {"table", "images", "steering"}


Spoil = Callable[[Path], object]


def mapping(**keys: object) -> Spoil:
    return lambda root: (root / "mapping.yaml").write_text(yaml.safe_dump({
        "table": "log.csv", "images": "images", "steering": {"column": "steering"}, **keys,
    }))  # fmt: skip


def renamed(name: str) -> Spoil:
    return lambda root: [mapping(table=name)(root), (root / "log.csv").rename(root / name)]


def cell(row: int, text: str) -> Spoil:
    def apply(root: Path) -> None:
        mapping(time={"column": "time"})(root)
        lines = (root / "log.csv").read_text().splitlines()
        (root / "log.csv").write_text("\n".join([*lines[: row - 1], text, *lines[row:]]) + "\n")

    return apply


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda root: None, "has no mapping.yaml with its table; `daydrive data import-table FILE` writes it"),
        (lambda root: (root / "mapping.yaml").write_text("a: ["), "mapping.yaml: not YAML"),
        (lambda root: (root / "mapping.yaml").write_text("[]"), "mapping.yaml: the file: Input should be"),
        (mapping(steerin={"column": "a"}), "mapping.yaml: steerin: there is no such key"),
        (mapping(steering={"column": "steering", "scale": "a lot"}), "mapping.yaml: steering.scale: Input should be"),
        (mapping(steering={"column": "steering", "scale": 0}), "steering.scale: must not be 0"),
        (mapping(steering=None), "there is no action; map steering, throttle or brake to a column"),
        (mapping(steering={"column": "steeering"}), "the column 'steeering' of steering does not exist; did you mean"),
        (mapping(steering={"column": "note"}), "the column 'note' of steering is text, not numbers"),
        (mapping(table="other.csv"), "mapping.yaml: table: there is no file 'other.csv' beside it or below"),
        (mapping(table="../log.csv"), "mapping.yaml: table: '../log.csv' is not a path below the folder"),
        (mapping(images="/etc"), "mapping.yaml: images: '/etc' is not a path below the folder"),
        (mapping(images="frames"), "frames does not exist; it has to be the folder of the images"),
        (mapping(image_column="steering"), "image_column is 'steering', which is not a column of names"),
        (mapping(image_column="note"), "row 2: the image 'x' is not in"),
        (mapping(image_time_scale=1e-3), "image_time_scale needs a time column"),
        (mapping(steering={"column": "wide"}), "row 2: wide is 7, outside [-1, 1] of the steering"),
        (cell(4, "0.2,0.1,x"), "log.csv, row 4: there are 3 cells, but the header has 4"),
        (cell(4, "0.2,,x,7"), "log.csv, row 4: steering is not a finite number"),
        (cell(4, "0.05,0.1,x,7"), "row 4: time is not later than in the row before"),
        (cell(4, "later,0.1,x,7"), "time is '0', neither a number nor a date in ISO 8601"),
        (cell(1, "a.jpg,0.5,x,7"), "log.csv, row 1: '0.5' is a number; the first row must contain"),
        (cell(1, "time,time,note,wide"), "log.csv, row 1: there are two columns 'time'"),
        (lambda root: [mapping()(root), (root / "images/00003.png").unlink()], "has 20 rows for the 19 images in"),
        (lambda root: [mapping()(root), (root / "images/00003.png").write_bytes(b"")], "00003.png is empty"),
        (renamed("log.parquet"), "log.parquet cannot be read"),
        (renamed("log.h5"), "log.h5 cannot be read"),
        (renamed("log.xls"), "log.xls is not a table that can be read (.csv"),
    ],
)  # fmt: skip
def test_malformed(spoil: Spoil, expected: str, tmp_path: Path) -> None:
    truth = Truth(20, hz=10.0, start=0.0)
    write_images(tmp_path / "raw/images", truth, size=(16, 16))
    table = {"time": truth.times, "steering": truth.at(truth.wheel), "note": ["x"] * 20, "wide": 7 + 0 * truth.times}
    write_table(tmp_path / "raw/log.csv", table)
    spoil(tmp_path / "raw")
    assert expected in refused("table", tmp_path)


@pytest.mark.parametrize(
    ("given", "images", "expected"),
    [
        ({"steering": "wheell"}, None, "has no column 'wheell' for --steering; did you mean 'wheel'?"),
        ({}, "/etc", "--images /etc: must be below"),
        ({}, "video.mp4", "video.mp4 cannot be read"),
        ({}, None, "has 2 videos and folders with images (images, more); name one with --images"),
        ({}, "images", "has no column that is an action by its name or by the images; name one with --steering"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported(given: dict[str, str], images: str | None, expected: str, tmp_path: Path) -> None:
    for name in ("images", "more"):
        write_images(tmp_path / name, Truth(20, hz=10.0, start=0.0), size=(16, 16))
    file = write_table(tmp_path / "log.csv", {"wheel": np.zeros(20), "other": np.ones(20)})
    place = None if images is None else tmp_path / images
    assert expected in refuses(lambda: import_table(file, place, given, None, overwrite=False), tmp_path)


def test_an_existing_mapping_is_not_replaced(tmp_path: Path) -> None:
    write_images(tmp_path / "images", TRUTH)
    file = write_table(tmp_path / "log.csv", CSV)
    (tmp_path / "mapping.yaml").write_text("mine")
    assert "already exists; --overwrite replaces it" in refuses(
        lambda: import_table(file, None, {}, None, overwrite=False), tmp_path
    )
    assert import_table(file, None, {}, None, overwrite=True).file.read_text() != "mine"


def test_hdf5_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.h5").write_bytes(b"\x89HDF")
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'daydrive[hdf5]'" in refuses(lambda: read_table(tmp_path / "log.h5"), tmp_path)
