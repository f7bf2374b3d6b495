"""Fitting of images with another aspect ratio, limits on the number of drives, and groups of drives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from daydrive.data import sources
from daydrive.data.images import Fit, fitted, geometry
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.drives import GroupedSource, numbered_image, write_drive
from helpers.refusals import refuses


@pytest.mark.parametrize(
    ("recorded", "size", "fit", "shown", "placed"),
    [
        ((376, 1241), (64, 128), "stretch", (0, 0, 376, 1241), (0, 0, 64, 128)),
        ((376, 1241), (64, 128), "crop", (0, 244, 376, 752), (0, 0, 64, 128)),
        ((874, 1164), (64, 128), "crop", (146, 0, 582, 1164), (0, 0, 64, 128)),
        ((376, 1241), (64, 128), "letterbox", (0, 0, 376, 1241), (12, 0, 39, 128)),
        ((874, 1164), (64, 128), "letterbox", (0, 0, 874, 1164), (0, 21, 64, 85)),
        ((40, 80), (20, 40), "crop", (0, 0, 40, 80), (0, 0, 20, 40)),
        ((8, 4000), (64, 64), "letterbox", (0, 0, 8, 4000), (31, 0, 1, 64)),
    ],
)
def test_geometry(recorded: tuple[int, int], size: tuple[int, int], fit: Fit, shown: object, placed: object) -> None:
    found = geometry(recorded, size, fit)
    assert (found.shown, found.placed) == (shown, placed)
    if fit != "stretch" and recorded[0] > 8:
        assert abs(found.pixel_aspect - 1) < 0.02


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_points_are_mapped_by_the_geometry(fit: Fit) -> None:
    recorded, size = (120, 300), (60, 60)
    image = np.zeros((*recorded, 3), dtype=np.uint8)
    image[66:74, 160:172] = 255
    found = geometry(recorded, size, fit)
    row, column = (np.average(np.arange(60), weights=fitted(image, size, fit)[..., 0].sum(axis=k)) for k in (1, 0))
    (top, left, height, width), (y, x, rows, columns) = found
    assert abs((70 - top) / height * rows + y - 0.5 - row) < 0.6
    assert abs((166 - left) / width * columns + x - 0.5 - column) < 0.6


@pytest.mark.parametrize(("fit", "aspect"), [("stretch", 1.5), ("crop", 1.0), ("letterbox", 1.0)])
def test_store_records_the_fit(fit: str, aspect: float, tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 30, size=(40, 60))
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (20, 20), workers=1, fit=fit))
    decoded = simplejpeg.decode_jpeg(store.read([10])[0][0])
    assert store.metadata["fit"] == fit and abs(store.pixel_aspect - aspect) < 0.1
    assert store.metadata["geometry"]["shown"] == ([0, 10, 40, 40] if fit == "crop" else [0, 0, 40, 60])
    assert (decoded[0].max() < 20) == (fit == "letterbox"), "black bars"
    assert np.abs(decoded[10, 10].astype(int) - numbered_image(10)[0, 0]).max() < 20
    again = prepare("folder", tmp_path / "raw", tmp_path / "store", (20, 20), workers=1, fit=fit)
    other = "crop" if fit == "stretch" else "stretch"
    message = refuses(lambda: prepare("folder", tmp_path / "raw", again, (20, 20), workers=1, fit=other), tmp_path)
    assert f'its fit is "{fit}", not "{other}"' in message


def test_stores_without_a_fit_are_stretched(tmp_path: Path) -> None:
    write_drive(tmp_path / "raw" / "d", 30)
    path = prepare("folder", tmp_path / "raw", tmp_path / "store", (20, 20), workers=1)
    text = (path / "store.json").read_text()
    (path / "store.json").write_text(text.replace('    "fit": "stretch",\n    "limit": null,\n', ""))
    made = (path / "store.json").stat().st_mtime_ns
    prepare("folder", tmp_path / "raw", path, (20, 20), workers=1)
    assert (path / "store.json").stat().st_mtime_ns == made


def test_groups_and_the_first_drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "counted", GroupedSource())
    store = Store.open(prepare("counted", None, tmp_path / "all", (16, 16), workers=1, drives=12))
    splits = {drive.name: drive.split for drive in store.drives}
    assert all(splits[f"c{i}"] == splits[f"c{i + 1}"] for i in range(0, 12, 2))
    assert sorted(splits.values()) == ["test"] * 2 + ["train"] * 8 + ["val"] * 2
    few = Store.open(prepare("counted", None, tmp_path / "few", (16, 16), workers=1, drives=12, limit=3))
    assert few.rows < 30 and few.metadata["request"]["limit"] == 3
    assert {drive.name.split(".")[0] for drive in few.drives} <= {"c0", "c1", "c2"}, "two groups are cut in time"
