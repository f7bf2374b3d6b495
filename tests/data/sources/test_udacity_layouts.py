"""Udacity recordings as people have them: headers, places of the log, three cameras, missing images."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from helpers.drives import numbered_image, numbers, write_udacity
from helpers.paths import SHARED
from helpers.refusals import refused

HEADER = "center,left,right,steering,throttle,brake,speed\n"
LOG = "driving_log.csv"
CRASH = SHARED / "udacity_crash"


def recording(root: Path, start: int = 0, count: int = 40) -> Path:
    readings = [(k / 250, 0.5, 0.0, float(k)) for k in range(count)]
    return write_udacity(root, [start + 100 * k for k in range(count)], readings)


def prepared(root: Path, **options: object) -> Store:
    return Store.open(prepare("udacity", root, root.parent / "store", (16, 16), workers=1, **options))


def rows_of(store: Store) -> list[int]:
    return store.read_values(np.arange(store.rows), ["row"])["row"].astype(int).tolist()


def left_out(store: Store) -> dict[str, dict[str, Any]]:
    return {entry["reason"]: entry for entry in store.metadata["frame_counts"][0]["left_out"]}


def with_header(root: Path) -> None:
    (root / LOG).write_text(HEADER.replace("steering", "Steering") + (root / LOG).read_text())


def with_columns_in_another_order(root: Path) -> None:
    lines = [line.split(",") for line in (HEADER + (root / LOG).read_text()).splitlines()]
    (root / LOG).write_text("\n".join(",".join([*cells[:3], *cells[:2:-1], "more"]) for cells in lines))


def with_blank_lines(root: Path) -> None:
    (root / LOG).write_text((root / LOG).read_text().replace("\n", "\r\n\r\n") + "\r\n  \r\n")


def with_semicolons(root: Path) -> None:
    (root / LOG).write_text((root / LOG).read_text().replace(",", ";"))


def log_among_the_images(root: Path) -> None:
    shutil.move(root / LOG, root / "IMG" / LOG)


def log_in_a_folder_beside(root: Path) -> None:
    (root / "data").mkdir()
    shutil.move(root / LOG, root / "data" / LOG)


def all_in_one_folder(root: Path) -> None:
    shutil.move(root / "IMG", root / "track")
    shutil.move(root / LOG, root / "track" / LOG)


def lower_case(root: Path) -> None:
    shutil.move(root / "IMG", root / "img")
    shutil.move(root / LOG, root / "Driving_Log.csv")


@pytest.mark.parametrize(
    "change",
    [
        with_header,
        with_columns_in_another_order,
        with_blank_lines,
        with_semicolons,
        log_among_the_images,
        log_in_a_folder_beside,
        all_in_one_folder,
        lower_case,
    ],
)
def test_layouts_give_the_same_rows(change: Callable[[Path], None], tmp_path: Path) -> None:
    plain = prepared(recording(tmp_path / "plain" / "raw"))
    root = recording(tmp_path / "other" / "raw")
    change(root)
    other = prepared(root)
    every = np.arange(plain.rows)
    assert np.array_equal(other.read_actions(every), plain.read_actions(every))
    assert numbers(other, every) == numbers(plain, every) and other.rows == plain.rows


def test_several_recordings_below_the_root(tmp_path: Path) -> None:
    """One log in the folder of the other's images, as in a recording that was saved into an older one."""
    root = recording(tmp_path / "raw")
    recording(root / "IMG", start=60_000, count=30)
    recording(root / "more" / "track", start=120_000)
    store = prepared(root)
    starts = {drive.name.rsplit(".", 1)[0] for drive in store.drives}
    assert starts == {"2020-01-02_03-04-05", "2020-01-02_03-05-05", "2020-01-02_03-06-05"}
    assert store.metadata["frame_counts"][0]["recorded"] == 110


def test_rows_that_another_log_has_too_are_left_out(tmp_path: Path) -> None:
    root = recording(tmp_path / "raw")
    shutil.copytree(root, root / "backup")
    store = prepared(root)
    assert left_out(store)["with an image that is in another row or log, too"]["frames"] == 40
    assert store.metadata["frame_counts"][0]["recorded"] == 80 and len(set(rows_of(store))) == store.rows


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda image: image.unlink(), "missing"),
        (lambda image: image.write_bytes(b""), "empty"),
        (lambda image: image.write_bytes(image.read_bytes()[:200]), "damaged"),
    ],
)
def test_a_missing_image_is_a_gap(
    damage: Callable[[Path], object], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = recording(tmp_path / "raw")
    damage(root / "IMG" / "center_2020_01_02_03_04_06_900.jpg")
    store = prepared(root)
    assert 20 not in rows_of(store) and {19, 21} <= set(rows_of(store)), "a gap of two periods does not end the drive"
    entry = left_out(store)[f"with an image that is {problem}"]
    assert entry["frames"] == 1 and entry["first"].endswith(f"{LOG}, row 20")
    assert f"left out: 1 with an image that is {problem}, {root / LOG}, row 20" in capsys.readouterr().out


def test_a_log_that_is_cut_off(tmp_path: Path) -> None:
    root = recording(tmp_path / "raw")
    (root / LOG).write_text((root / LOG).read_text()[:-12])
    assert left_out(prepared(root))["in a row that is cut off"]["first"].endswith("row 40")


@pytest.mark.parametrize("cut", [False, True])
def test_three_cameras(cut: bool, tmp_path: Path) -> None:
    """Drives of their own, with the corrected steering, in the splits of the center's."""
    root = recording(tmp_path / "raw", count=200 if cut else 60)
    for shade, side in ((90, "left"), (200, "right")):
        for image in list((root / "IMG").glob("center_*")):
            data = simplejpeg.encode_jpeg(numbered_image(shade), 95)
            (root / "IMG" / image.name.replace("center", side)).write_bytes(data)
    if cut:
        (root / "IMG" / "left_2020_01_02_03_04_15_000.jpg").unlink()
    store = prepared(root, camera="all", steering_correction=0.25, gap=0.15)
    assert [drive.name.split("/")[1].split(".")[0] for drive in store.drives[:3]] == ["center", "left", "right"]
    shown = {"center": None, "left": 90, "right": 200}
    splits: dict[int, set[str]] = {}
    for drive in store.drives:
        camera = drive.name.split("/")[1].split(".")[0]
        rows = drive.start + np.arange(drive.frames)
        numbered = store.read_values(rows, ["row"])["row"].astype(int)
        steering = (numbered - 1) / 250 + {"center": 0.0, "left": 0.25, "right": -0.25}[camera]
        assert np.allclose(store.read_actions(rows)[:, 0], steering.clip(-1, 1), atol=1e-6)
        assert shown[camera] is None or np.abs(np.array(numbers(store, rows)) - shown[camera]).max() <= 3
        for row in numbered.tolist():
            splits.setdefault(row, set()).add(drive.split)
    assert all(len(found) == 1 for found in splits.values()), "one moment is in one split"
    assert not cut or 101 not in splits, "the drives of all cameras have the same gaps"
    counts = store.metadata["frame_counts"][0]
    stored = counts["recorded"] + counts["repeated"] - sum(entry["frames"] for entry in counts["left_out"])
    assert counts["recorded"] == 3 * (200 if cut else 60) and counts["stored"] == stored == store.rows


def test_one_side_camera(tmp_path: Path) -> None:
    root = recording(tmp_path / "raw")
    assert "of 40 frames, 40 with an image that is missing" in refused("udacity", tmp_path, camera="left")
    for image in list((root / "IMG").glob("center_*")):
        image.rename(image.with_name(image.name.replace("center", "left")))
    store = prepared(root, camera="left")
    assert {str(drive["made_from"]) for drive in store.metadata["drives"]} == {"{'images': 'left'}"}
    assert np.allclose(store.read_actions([0])[0, 0], 0.0)
    assert "there is no such camera; did you mean 'right'?" in refused("udacity", tmp_path, camera="rigth")


def test_a_longer_gap_is_an_option(tmp_path: Path) -> None:
    times = [100 * k + 400 * (k // 5) for k in range(60)]
    root = write_udacity(tmp_path / "raw", times)
    with pytest.raises(UserError, match=r"of 60 frames, 60 in pieces shorter than 1 s .* a larger --set gap=SECONDS"):
        prepared(root)
    assert len({drive.name.rsplit(".", 1)[0] for drive in prepared(root, gap=0.6).drives}) == 1


def test_images_beside_the_root_are_named(tmp_path: Path) -> None:
    root = recording(tmp_path / "raw")
    log_in_a_folder_beside(root)
    message = refused("udacity", tmp_path, data_root=root / "data")
    assert "IMG is in its parent folder, use that as --data-root" in message


@pytest.mark.skipif(not CRASH.is_dir(), reason=f"the recording is not at {CRASH}")
def test_a_real_recording_with_its_log_among_the_images(tmp_path: Path) -> None:
    plain = Store.open(prepare("udacity", CRASH, tmp_path / "plain", (16, 16), workers=1))
    shutil.copytree(CRASH / "IMG", tmp_path / "raw" / "IMG")
    log = (CRASH / LOG).read_text()
    (tmp_path / "raw" / "IMG" / LOG).write_text(HEADER + log + "\n\n")
    moved = Store.open(prepare("udacity", tmp_path / "raw", tmp_path / "moved", (16, 16), workers=1))
    every = np.arange(plain.rows)
    assert moved.rows == plain.rows and np.array_equal(moved.read_actions(every), plain.read_actions(every))
    assert moved.metadata["frame_counts"][0]["recorded"] == len(log.splitlines())
