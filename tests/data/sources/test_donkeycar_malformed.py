"""Malformed Donkeycar tubs: a one-line error with file and row, and no files left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daydrive.data.prepare.prepare import prepare
from helpers.open_formats import write_old_tub, write_tub
from helpers.refusals import Refuse, refuses

Spoil = Callable[[Path], object]
CATALOG, IMAGE = "catalog_0.catalog", "images/7_cam_image_array_.jpg"


def row(name: str, number: int, edit: Callable[[str], str]) -> Spoil:
    def apply(tub: Path) -> None:
        lines = (tub / name).read_text().splitlines()
        lines[number - 1] = edit(lines[number - 1])
        (tub / name).write_text("\r\n".join(lines) + "\r\n")

    return apply


def put(name: str, number: int, **values: object) -> Spoil:
    """Sets keys of the JSON in a row; in `user_…` and `cam_…`, `_` stands for `/`."""
    renamed = {key.replace("user_", "user/").replace("cam_", "cam/"): value for key, value in values.items()}
    return row(name, number, lambda text: json.dumps({**json.loads(text), **renamed}))


def without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key})


def moved_out(name: str) -> Spoil:
    def apply(tub: Path) -> None:
        shutil.move(tub / name, tub.parent.parent / "elsewhere")
        (tub / name).symlink_to(tub.parent.parent / "elsewhere")

    return apply


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (put(CATALOG, 4, user_angle=1.5), "catalog_0.catalog, row 4: user/angle is 1.5, outside [-1, 1]"),
        (
            put(CATALOG, 4, user_angle=float("nan")),
            "catalog_0.catalog, row 4: user/angle is nan, expected a number",
        ),
        (put(CATALOG, 5, user_throttle="full"), "row 5: user/throttle is 'full', expected a number"),
        (row(CATALOG, 6, without("user/throttle")), "row 6: user/throttle is missing, expected a number"),
        (row(CATALOG, 6, without("cam/image_array")), "row 6: it has no cam/image_array, the name of its image"),
        (row(CATALOG, 6, without("_timestamp_ms")), "row 6: _timestamp_ms is missing, expected a number"),
        (row(CATALOG, 7, lambda text: text[:30]), "catalog_0.catalog, row 7: not JSON"),
        (row(CATALOG, 7, lambda _: "[1, 2]"), "catalog_0.catalog, row 7: a list, expected a JSON object"),
        (row(CATALOG, 7, lambda _: "[" * 100_000), "catalog_0.catalog, row 7: not JSON"),
        (
            put(CATALOG, 9, _timestamp_ms=1_600_000_000_000),
            "row 9: its time is 0.350 s before that of the previous record",
        ),
        (row("manifest.json", 5, lambda _: "{}"), "manifest.json is not a Donkeycar manifest"),
        (row("manifest.json", 5, lambda text: text[:20]), "manifest.json, row 5: not JSON"),
        (
            put("manifest.json", 5, paths=["catalog_0.catalog", "../../../etc/x.catalog"]),
            "cannot be resolved|out of the data",
        ),
        (put("manifest.json", 5, paths=[7]), "manifest.json, row 5: 7 is not the name of a catalog"),
        (put("manifest.json", 5, deleted_indexes=list(range(30))), "has no two consecutive records"),
        (lambda tub: (tub / CATALOG).unlink(), "catalog_0.catalog cannot be read"),
        (lambda tub: (tub / CATALOG).write_bytes(b"\xff\xfe\x00"), "catalog_0.catalog cannot be read"),
        (lambda tub: (tub / IMAGE).unlink(), "catalog_0.catalog, row 8: the image"),
        (lambda tub: (tub / IMAGE).write_bytes(b""), "7_cam_image_array_.jpg is empty (0 bytes)"),
        (lambda tub: (tub / IMAGE).write_bytes((tub / IMAGE).read_bytes()[:90]), "is a damaged JPEG"),
        (moved_out(IMAGE), "7_cam_image_array_.jpg is a link out of the data root"),
        (moved_out("images"), "_cam_image_array_.jpg is a link out of the data root"),
    ],
)
def test_tubs(spoil: Spoil, expected: str, tmp_path: Path) -> None:
    spoil(write_tub(tmp_path / "raw" / "déjà vu", (25,)))
    message = refuses(
        lambda: prepare("donkeycar", tmp_path / "raw", tmp_path / "out" / "store", (16, 16), workers=1), tmp_path
    )
    assert any(part in message for part in expected.split("|")), message


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda tub: (tub / "record_3.json").write_text("{"), "record_3.json: not JSON"),
        (lambda tub: (tub / "record_3.json").rename(tub / "record_x.json"), "record files are named record_N.json"),
        (row("record_3.json", 1, without("user/angle")), "record_3.json: user/angle is missing"),
        (
            put("record_3.json", 1, timestamp="yesterday"),
            "record_3.json: the timestamp 'yesterday' is not a date and time",
        ),
        (lambda tub: [file.unlink() for file in tub.glob("record_*[02468].json")], "no two consecutive records"),
        (lambda tub: shutil.rmtree(tub), "is empty"),
    ],
)
def test_old_tubs(spoil: Spoil, expected: str, tmp_path: Path) -> None:
    spoil(write_old_tub(tmp_path / "raw" / "tub", range(30), "timestamp"))
    message = refuses(lambda: prepare("donkeycar", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1), tmp_path)
    assert expected in message, message


def test_the_command_line_exits_with_2(tmp_path: Path, refuse: Refuse) -> None:
    write_tub(tmp_path / "raw", (15,))
    refuse(
        "prepare-dataset",
        "--dataset",
        "donkeycar",
        "--data-root",
        tmp_path / "raw",
        message="has no 1 s of records without a gap",
    )
