"""User errors in preparation: one sentence, and no files left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from daydrive.data import sources
from daydrive.data.images import encode
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from helpers.drives import HEADER, numbered_image, write_drive, write_udacity
from helpers.refusals import refuses

GOOD = "0.1,0.5,0,1"


def refused(dataset: str, tmp_path: Path, root: Path | None = None, **more: object) -> str:
    settings = {"data_root": root or tmp_path / "raw", "output": tmp_path / "out" / "store", "workers": 1, **more}
    return refuses(lambda: prepare(dataset, **settings), tmp_path)


@pytest.mark.parametrize("dataset", ["udacity", "folder"])
def test_missing_empty_and_foreign_roots(dataset: str, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    assert "does not exist" in refused(dataset, tmp_path)
    root.mkdir()
    assert "is empty" in refused(dataset, tmp_path)
    (root / "notes.txt").write_text("hello")
    assert str(root) in refused(dataset, tmp_path)
    assert "is a file" in refused(dataset, tmp_path, root / "notes.txt")
    assert "--data-root" in refuses(lambda: prepare(dataset, None, tmp_path / "store"), tmp_path)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'udacity'"):
        sources.get("udacty")
    with pytest.raises(UserError, match="CarRacing"):
        prepare("gym", None, env="CarRacin-v3")


@pytest.mark.parametrize(
    ("dataset", "options", "expected"),
    [
        ("udacity", {"drives": 3}, "does not take --drives; its options: --hz"),
        ("road", {"drives": 0}, "--drives must be at least 1"),
        ("road", {"frames": "many"}, "--frames must be an integer"),
        ("road", {"frames": 2.5}, "--frames must be an integer"),
        ("folder", {"hz": float("nan")}, "--hz must be at least 0.1"),
        ("gym", {}, "needs --env"),
        ("gym", {"env": "CartPole-v1"}, "has no image observations"),
        ("gym", {"env": "daydrive/Road-v0", "hz": 3}, "--hz 3 does not divide"),
        ("road", {"workers": -1}, "--workers"),
    ],
)
def test_options(dataset: str, options: dict[str, object], expected: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    assert expected in refused(dataset, tmp_path, **options)


@pytest.mark.parametrize("size", [(0, 64), (64, -1), (4, 4), (64, 100_000)])
def test_impossible_image_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    assert "--image-size" in refused("road", tmp_path, image_size=size)


@pytest.mark.parametrize(
    ("rows", "header", "expected"),
    [
        ([GOOD] * 3, HEADER, "has 3 rows for the 4 images"),
        ([GOOD] * 5, HEADER, "has 5 rows for the 4 images"),
        ([GOOD], HEADER, "needs at least 2"),
        ([GOOD, "left,0,0,1", GOOD, GOOD], HEADER, "row 3: steering is 'left', expected a number"),
        ([GOOD, GOOD, "0,nan,0,1", GOOD], HEADER, "row 4: throttle is nan"),
        ([GOOD, GOOD, GOOD, "0,0,1.5,1"], HEADER, "row 5: brake is 1.5, outside [0, 1]"),
        (["0,0,0,0.5", GOOD, GOOD, GOOD], HEADER, "row 2: gear is 0.5"),
        ([GOOD, "0,0,0", GOOD, GOOD], HEADER, "row 3: there are 3 cells, but the header has 4"),
        ([GOOD] * 4, "steer,throttle,brake,gear", "row 1: there is no column 'steering'; rename 'steer'?"),
        ([GOOD] * 4, GOOD, "row 1: there is no column 'steering'"),
        ([f"{GOOD},{t}" for t in (0, 0.1, 0.05, 0.2)], f"{HEADER},time", "row 4: time 0.05 is not after"),
        ([f"{GOOD},{t}" for t in (0, 9, 99, 999)], f"{HEADER},time", "the unit of time is unclear"),
    ],
)
def test_invalid_tables(rows: list[str], header: str, expected: str, tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 4, rows, header)
    assert expected in refused("folder", tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty (0 bytes)"),
        (encode(numbered_image(3))[:300], "damaged JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "truncated PNG"),
        (b"GIF89a nonsense", "not a supported image"),
    ],
)
def test_invalid_images(content: bytes, expected: str, tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 4)
    (tmp_path / "raw" / "d" / "images" / "f2.jpg").write_bytes(content)
    message = refused("folder", tmp_path)
    assert expected in message and "row 4" in message and "f2.jpg" in message


def test_invalid_folder_layouts(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "train" / "a", 3)
    (tmp_path / "raw" / "val").mkdir()
    assert "val has no drives" in refused("folder", tmp_path)
    write_drive(tmp_path / "raw" / "extra", 3)
    assert "mixes split folders" in refused("folder", tmp_path)
    shutil.rmtree(tmp_path / "raw")
    drive = write_drive(tmp_path / "raw" / "d", 3)
    (drive / "road.mp4").write_bytes(b"not a video")
    assert "both images/ and the video" in refused("folder", tmp_path)
    shutil.rmtree(drive / "images")
    assert "road.mp4 cannot be read" in refused("folder", tmp_path)
    (drive / "road.mp4").unlink()
    assert "neither images/ nor a video" in refused("folder", tmp_path)
    (drive / "actions.csv").unlink()
    assert "is not a drive" in refused("folder", tmp_path)


def test_too_high_rate_and_differing_rates(tmp_path: Path) -> None:
    for k, rate in enumerate((10, 20)):
        rows = [f"{GOOD},{i / rate}" for i in range(6)]
        write_drive(tmp_path / "raw" / f"d{k}", 6, rows, f"{HEADER},time")
    assert "different frame rates (10, 20 Hz); set --hz" in refused("folder", tmp_path)
    assert "too few for --hz 20" in refused("folder", tmp_path, hz=20)


def change(line: int, old: str, new: str) -> Callable[[list[str]], None]:
    def apply(lines: list[str]) -> None:
        lines[line] = lines[line].replace(old, new)

    return apply


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (change(2, "0.5,0.0", "fast,0.0"), "row 3: throttle is 'fast', expected a number"),
        (change(2, "0.5,0.0", "nan,0.0"), "row 3: throttle is nan"),
        (change(1, ",0.0,0.5", ",-7,0.5"), "row 2: steering is -7, outside [-1, 1]"),
        (change(3, ",10.0", ""), "row 4: there are 6 columns, expected 7"),
        (lambda lines: lines.reverse(), "is not after that of the previous row"),
        (lambda lines: lines.clear(), "it has 0 frames"),
        (change(0, "center_2020", "center_20x0"), "row 1: "),
        (change(0, "_01_02_", "_13_02_"), "row 1: the time in"),
        (
            lambda lines: lines.__setitem__(slice(None), [line.replace("_03_04_", "_03_14_") for line in lines]),
            "of 20 frames, 20 with an image that is missing, the first in ",
        ),
        (lambda lines: lines.insert(0, "center,left,right,steering,throttle,brakes,speed"), "no column 'brake'"),
        (change(2, "0.0,0.5,0.0,10.0", "0,05,0,5,0,10,2"), "row 3: the numbers have decimal commas"),
        (
            lambda lines: lines.__setitem__(
                slice(None), [line.replace(",", ";").replace("0.5", "0,5") for line in lines]
            ),
            "row 1: throttle is '0,5', expected a number with a decimal point",
        ),
    ],
)
def test_invalid_udacity_logs(spoil: Callable[[list[str]], None], expected: str, tmp_path: Path) -> None:
    root = write_udacity(tmp_path / "raw", [100 * k for k in range(20)])
    lines = (root / "driving_log.csv").read_text().splitlines()
    spoil(lines)
    (root / "driving_log.csv").write_text("\n".join(lines))
    assert expected in refused("udacity", tmp_path)


@pytest.mark.parametrize("prefix", ["..\\..\\", "../../", "/", "C:\\"])
def test_paths_outside_the_root_are_rejected(prefix: str, tmp_path: Path) -> None:
    root = write_udacity(tmp_path / "raw", [100 * k for k in range(20)])
    lines = (root / "driving_log.csv").read_text().splitlines()
    name = "center_2020_01_02_03_04_05_100.jpg"
    for outside in (tmp_path / name, root / name):
        shutil.copy(root / "IMG" / name, outside)
    (root / "IMG" / name).unlink()
    lines[1] = f"{prefix}{name},l,r,0,0,0,0"
    (root / "driving_log.csv").write_text("\n".join(lines))
    store = Store.open(prepare("udacity", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1, gap=0.5))
    assert 2 not in store.read_values(np.arange(store.rows), ["row"])["row"]
    missing = [entry for entry in store.metadata["frame_counts"][0]["left_out"] if "missing" in entry["reason"]]
    assert missing[0]["frames"] == 1 and missing[0]["first"].endswith("driving_log.csv, row 2")


def test_invalid_outputs(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 30)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("keep me")
    assert "is a file" in refused("folder", tmp_path, output=tmp_path / "file")
    assert "cannot be written" in refused("folder", tmp_path, output=tmp_path / "file" / "store")
    for overwrite in (False, True):
        assert "is not a store; choose an empty" in refused(
            "folder", tmp_path, output=tmp_path / "other", overwrite=overwrite
        )
    assert (tmp_path / "other" / "precious.txt").read_text() == "keep me"


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write_drive(tmp_path / "raw" / "d", 30)
    monkeypatch.setattr("daydrive.data.prepare.prepare.write_store", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); the next run resumes"):
        prepare("folder", tmp_path / "raw", tmp_path / "out", (16, 16), workers=1)
    assert [file.name for file in tmp_path.rglob("*.arrow")] == ["000000.arrow"] and not (tmp_path / "out").exists()


def test_invalid_stores(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 30)
    path = prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1)
    metadata = json.loads((path / "store.json").read_text())

    def opened() -> str:
        return refuses(lambda: Store.open(path).read([0]), tmp_path)

    assert "create one with" in refuses(lambda: Store.open(tmp_path / "nowhere"), tmp_path)
    assert "not a prepared store" in refuses(lambda: Store.open(tmp_path / "raw"), tmp_path)
    (path / "store.json").write_text(json.dumps({**metadata, "format_version": 99}))
    assert "format version 99" in opened()
    (path / "store.json").write_text(json.dumps({"format_version": 1}))
    assert "not a store's metadata" in opened()
    (path / "store.json").write_text("{")
    assert "cannot be read" in opened()
    longer = [{**drive, "frames": drive["frames"] + 5} for drive in metadata["drives"]]
    (path / "store.json").write_text(json.dumps({**metadata, "drives": longer}))
    assert "truncated" in opened()
    (path / "store.json").write_text(json.dumps(metadata))
    (data,) = (path / "frames.lance" / "data").glob("*.lance")
    data.write_bytes(data.read_bytes()[:1000])
    assert "damaged" in opened()
    shutil.rmtree(path / "frames.lance")
    assert "has no table" in opened()
