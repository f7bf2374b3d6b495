"""Malformed Donkeycar tubs: bad records are left out and counted; for all else, a one-line error and no files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
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


def prepared(tub: Path) -> tuple[Store, dict[str, dict[str, Any]]]:
    """The store of `tub`'s parent at its native rate, and what is left out by its reason."""
    store = Store.open(prepare("donkeycar", tub.parent, tub.parent.parent / "store", (16, 16), workers=1))
    return store, {entry["reason"]: entry for entry in store.metadata["frame_counts"][0]["left_out"]}


@pytest.mark.parametrize(
    ("spoil", "record", "reason"),
    [
        (put(CATALOG, 4, user_angle=float("nan")), 3, "whose user/angle is not a number"),
        (put(CATALOG, 5, user_throttle="full"), 4, "whose user/throttle is not a number"),
        (row(CATALOG, 6, without("user/throttle")), 5, "whose user/throttle is missing"),
        (row(CATALOG, 6, without("cam/image_array")), 5, "whose record has no cam/image_array"),
        (row(CATALOG, 6, without("_timestamp_ms")), 5, "whose _timestamp_ms is missing"),
        (put(CATALOG, 6, _index="five"), 5, "whose record has no valid _index"),
        (row(CATALOG, 7, lambda text: text[:30]), 6, "whose record is not a JSON object"),
        (row(CATALOG, 7, lambda _: "[1, 2]"), 6, "whose record is not a JSON object"),
        (row(CATALOG, 7, lambda _: "[" * 100_000), 6, "whose record is not a JSON object"),
        (row(CATALOG, 7, lambda text: "\0" * len(text)), 6, "whose record is not a JSON object"),
        (row(CATALOG, 7, lambda text: "\0" * 50 + text), 6, "whose record is not a JSON object"),
        (put(CATALOG, 9, _timestamp_ms=1_600_000_000_350), 8, "with the time of the previous record"),
        (lambda tub: (tub / IMAGE).unlink(), 7, "with an image that is missing"),
        (lambda tub: (tub / IMAGE).write_bytes(b""), 7, "with an image that is empty"),
        (lambda tub: (tub / IMAGE).write_bytes(bytes(400)), 7, "with an image that is damaged"),
        (lambda tub: (tub / IMAGE).write_bytes((tub / IMAGE).read_bytes()[:90]), 7, "with an image that is damaged"),
    ],
)
def test_one_bad_record_is_left_out_and_counted(spoil: Spoil, record: int, reason: str, tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "raw" / "déjà vu", (30,), in_catalog=30)
    spoil(tub)
    store, left_out = prepared(tub)
    used = store.read_values(np.arange(store.rows), ["record"])["record"]
    assert record not in used and {record - 1, record + 1} <= set(used), "the drive goes on after it"
    assert left_out[reason]["frames"] == 1 and f"{CATALOG}, row {record + 1}" in left_out[reason]["first"]


def test_what_a_power_loss_leaves_behind(tmp_path: Path) -> None:
    tub = write_tub(tmp_path / "raw" / "tub", (40,), in_catalog=40)
    lines = (tub / CATALOG).read_bytes().split(b"\r\n")
    (tub / CATALOG).write_bytes(b"\n".join(lines[:38]) + b"\n\0\0\0\0\xff\xfe\0\n\n")
    for number in (36, 37):
        (tub / "images" / f"{number}_cam_image_array_.jpg").write_bytes(b"")
    store, left_out = prepared(tub)
    record = store.read_values(np.arange(store.rows), ["record"])["record"]
    assert record.max() == 35 and left_out["with an image that is empty"]["frames"] == 2
    assert left_out["whose record is not a JSON object"]["frames"] == 1
    assert store.metadata["frame_counts"][0]["recorded"] == 39


def test_a_clock_that_is_put_back_ends_the_drive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tub = write_tub(tmp_path / "raw" / "tub", (60,), in_catalog=60)
    lines = (tub / CATALOG).read_text().splitlines()
    back = [json.loads(line) for line in lines[30:]]
    for found in back:
        found["_timestamp_ms"] -= 3_600_000
    (tub / CATALOG).write_text("\n".join([*lines[:30], *map(json.dumps, back)]) + "\n")
    store, _ = prepared(tub)
    assert {drive.name.split(".")[0] for drive in store.drives} == {"tub/20-09-13_0/0", "tub/20-09-13_0/30"}
    assert "a drive ends where the clock was put back, at 1 records" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (put(CATALOG, 4, user_angle=1.5), "catalog_0.catalog, row 4: user/angle is 1.5, outside [-1, 1]"),
        (row("manifest.json", 5, lambda _: "{}"), "manifest.json is not a Donkeycar manifest"),
        (row("manifest.json", 5, lambda text: text[:20]), "manifest.json, row 5: not JSON"),
        (
            put("manifest.json", 5, paths=["catalog_0.catalog", "../../../etc/x.catalog"]),
            "cannot be resolved|out of the data",
        ),
        (put("manifest.json", 5, paths=[7]), "manifest.json, row 5: 7 is not the name of a catalog"),
        (put("manifest.json", 5, deleted_indexes=list(range(30))), "of 25 frames, 25 deleted in Donkeycar"),
        (lambda tub: (tub / CATALOG).unlink(), "catalog_0.catalog cannot be read"),
        (lambda tub: (tub / CATALOG).write_bytes(b"\xff\xfe\x00"), "of 1 frames, 1 whose record is not a JSON object"),
        (lambda tub: shutil.rmtree(tub / "images"), "of 25 frames, 25 with an image that is missing"),
        (moved_out(IMAGE), "7_cam_image_array_.jpg is a link out of the data root"),
        (moved_out("images"), "images is a link out of the data root"),
    ],
)
def test_tubs(spoil: Spoil, expected: str, tmp_path: Path) -> None:
    spoil(write_tub(tmp_path / "raw" / "déjà vu", (25,)))
    message = refuses(
        lambda: prepare("donkeycar", tmp_path / "raw", tmp_path / "out" / "store", (16, 16), workers=1), tmp_path
    )
    assert any(part in message for part in expected.split("|")), message


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda tub: (tub / "record_3.json").write_text("{"), "whose record is not a JSON object"),
        (row("record_3.json", 1, without("user/angle")), "whose user/angle is missing"),
        (put("record_3.json", 1, timestamp="yesterday"), "whose timestamp is not a date and time"),
        (lambda tub: (tub / "exclude.json").write_text("[3]"), "deleted in Donkeycar"),
    ],
)
def test_one_bad_record_of_an_old_tub(spoil: Spoil, reason: str, tmp_path: Path) -> None:
    tub = write_old_tub(tmp_path / "raw" / "tub", range(30), "timestamp")
    spoil(tub)
    store, left_out = prepared(tub)
    used = set(store.read_values(np.arange(store.rows), ["record"])["record"])
    assert left_out[reason]["frames"] == 1 and 3 not in used and {4, 20} <= used


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda tub: (tub / "record_3.json").rename(tub / "record_x.json"), "record files are named record_N.json"),
        (lambda tub: (tub / "exclude.json").write_text("{}"), "exclude.json is not a list of the numbers"),
        (
            lambda tub: [file.unlink() for file in tub.glob("record_*[02468].json")],
            "of 15 frames, 15 alone between deleted records or ends of sessions",
        ),
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
