"""Splits are balanced by frames; few long drives are cut by time; training is the largest split or that is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from daydrive.data.prepare import split
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import SPLITS, Store
from helpers.drives import write_drive
from helpers.paths import SHARED

STALLS = SHARED / "donkeycar_stalls"


def shares(sizes: Sequence[int], splits: Sequence[str]) -> dict[str, float]:
    pairs = list(zip(sizes, splits, strict=True))
    return {name: sum(size for size, other in pairs if other == name) / sum(sizes) for name in SPLITS}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "sizes",
    [
        [2000, *[100] * 11],
        [5, 10, 20, 40, 80, 160, 320, 640, 1280],
        [1000, 29, 900, 30, 950, 31, 980],
        list(range(1, 60)),
    ],
)
def test_splits_are_balanced_by_frames(sizes: list[int], seed: int) -> None:
    splits = split.by_frames(sizes, {}, seed)
    found = shares(sizes, splits)
    assert splits == split.by_frames(sizes, {}, seed) and set(splits) == set(SPLITS)
    assert found["train"] == max(found.values()) and found["train"] > 0.47


@pytest.mark.parametrize("count", [4, 8, 30, 100])
def test_equal_drives_are_split_by_their_number(count: int) -> None:
    assert split.by_frames([50] * count, {}, 3) == split.by_drive(count, 3)


@pytest.mark.parametrize("seed", range(10))
def test_added_drives_restore_the_balance(seed: int) -> None:
    existing = {"train": (6, 60), "val": (2, 400), "test": (4, 900)}
    assert set(split.by_frames([50, 300, 10, 700], existing, seed)) == {"train"}
    existing = {"train": (8, 3000), "val": (1, 10), "test": (1, 20)}
    sizes = [200] * 6
    splits = split.by_frames(sizes, existing, seed)
    assert 400 <= 200 * splits.count("val") <= 800 and splits.count("test") >= 2
    assert split.by_frames([], existing, seed) == []


@pytest.mark.parametrize(
    ("sizes", "cut"),
    [
        ([900, 1000, 950], True),  # 95 s of 30 Hz
        ([29, 900, 891], False),  # val would have 6 s
        ([2900, 90000, 891], True),
        ([900] * 8, False),
        ([90, 100, 95], False),
    ],
)
def test_few_long_drives_are_cut(sizes: list[int], cut: bool) -> None:
    assert split.should_cut(sizes, split.by_frames(sizes, {}, 0), 28.0) == cut


def test_few_drives_are_cut_by_time_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, frames in enumerate((40, 45, 35)):
        write_drive(tmp_path / "raw" / f"d{k}", frames, size=(16, 16))
    store = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1, hz=1.0))
    assert [(drive.name, drive.split, drive.frames) for drive in store.drives] == [
        ("d0.train", "train", 40), ("d1.train", "train", 41), ("d2.val", "val", 8), ("d2.test", "test", 24),
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "The 3 drives are too few or too uneven" in said and "(81 train, 8 val, 24 test frames)" in said


def test_added_drives_leave_the_others_in_their_splits(tmp_path: Path) -> None:
    for k, frames in enumerate((40, 45, 35)):
        write_drive(tmp_path / "raw" / f"d{k}", frames, size=(16, 16))
    options = {"workers": 1, "hz": 1.0, "add": True}
    before = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), **options))
    write_drive(tmp_path / "raw" / "d3", 50, size=(16, 16))
    after = Store.open(prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), **options))
    assert list(after.drives)[:-1] == list(before.drives) and after.drives[-1].name == "d3"
    assert after.drives[-1].split == "train"


def test_training_that_is_not_the_largest_split_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, frames in (("train", 5), ("val", 9), ("test", 12)):
        write_drive(tmp_path / "raw" / name / "a", frames, size=(16, 16))
    prepare("folder", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1)
    assert "train has only 5 of 26 frames, fewer than test (12); add drives" in capsys.readouterr().out


@pytest.mark.skipif(not STALLS.is_dir(), reason=f"there is no recording {STALLS}")
def test_real_tubs_have_most_frames_in_training(tmp_path: Path) -> None:
    store = Store.open(prepare("donkeycar", STALLS, tmp_path / "store", (16, 16), workers=1))
    frames = {name: int(store.drives.frames[store.drives.of_split(name)].sum()) for name in SPLITS}
    assert frames["train"] > 0.5 * store.rows and np.isclose(frames["val"] / store.rows, 0.1, atol=0.07), frames
