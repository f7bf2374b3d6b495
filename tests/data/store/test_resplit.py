"""Changing the splits of a store by drive and by time, in place and in a new store."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from daydrive.data import sources
from daydrive.data.prepare.prepare import prepare
from daydrive.data.prepare.split import by_share, by_time
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.store.resplit import resplit
from daydrive.data.store.store import Store
from helpers.drives import GroupedSource, write_udacity
from helpers.refusals import Refuse


@pytest.fixture
def grouped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Twelve drives of ten frames, 2k and 2k + 1 of one location."""
    monkeypatch.setitem(sources.SOURCES, "counted", GroupedSource())
    return Store.open(prepare("counted", None, tmp_path / "grouped", (16, 16), workers=1, drives=12))


def shares(store: Store) -> dict[str, int]:
    return {name: sum(d.frames for d in store.split(name)) for name in ("train", "val", "test")}


def test_by_drive_preserves_groups_and_table(grouped: Store) -> None:
    table = grouped.path / "frames.lance"
    before = {file: file.stat().st_mtime_ns for file in table.rglob("*")}
    made = [resplit(grouped.path, "drive", seed=seed, val=0.2, test=0.3) for seed in (1, 2, 1)]
    assert {file: file.stat().st_mtime_ns for file in table.rglob("*")} == before
    assert len({store.fingerprint for store in (grouped, *made)}) == 3 and made[0].fingerprint == made[2].fingerprint
    for store in made:
        splits = {drive.name: drive.split for drive in store.drives}
        assert all(splits[f"c{i}"] == splits[f"c{i + 1}"] for i in range(0, 12, 2))
        assert shares(store) == {"train": 60, "val": 20, "test": 40}
        assert store.metadata["split"]["by"] == "drive"
    assert Store.open(grouped.path).drives == made[2].drives


def test_by_time_segments_are_separated_and_can_be_rejoined(grouped: Store, tmp_path: Path) -> None:
    cut = resplit(grouped.path, "time", val=0.2, test=0.2, output=tmp_path / "cut")
    assert shares(Store.open(grouped.path)) == shares(grouped), "the first one is as it was"
    shared = [f for f in (tmp_path / "cut").rglob("*") if f.is_file() and f.stat().st_nlink > 1]
    assert any(file.suffix == ".lance" for file in shared), "images are stored once"
    ends = [drive.start + drive.frames for drive in cut.drives]
    assert [drive.start for drive in cut.drives] == [0, *ends[:-1]] and ends[-1] == grouped.rows
    groups: dict[str, list[str]] = {}
    for entry in cut.metadata["drives"]:
        groups.setdefault(entry["group"], []).extend([entry["split"]] * entry["frames"])
    for splits in groups.values():
        runs = [splits[0], *(after for before, after in pairwise(splits) if after != before)]
        assert [run for run in runs if run != "unused"] == ["train", "val", "test"]
        assert runs.count("unused") == 2 and len(splits) == 20, "a gap before val and one before test"
    assert len(ClipIndex(cut, "train", 4, 1)) == sum(max(d.frames - 3, 0) for d in cut.split("train"))
    assert not find_bad_rows(cut)
    again = resplit(cut.path, "drive", seed=1, val=0.2, test=0.3)
    other = resplit(grouped.path, "drive", seed=1, val=0.2, test=0.3)
    assert again.drives == other.drives and again.fingerprint == other.fingerprint
    assert np.array_equal(again.read_actions([0, 7, 119]), other.read_actions([0, 7, 119]))


def test_store_without_groups(tmp_path: Path) -> None:
    """One recording in three segments, prepared by a version without groups."""
    write_udacity(tmp_path / "raw", [100 * k for k in range(200)])
    store = Store.open(prepare("udacity", tmp_path / "raw", tmp_path / "store", (16, 16), workers=1))
    assert {entry["group"] for entry in store.metadata["drives"]} == {"2020-01-02_03-04-05"}
    metadata = json.loads((store.path / "store.json").read_text())
    metadata["drives"] = [{k: v for k, v in drive.items() if k != "group"} for drive in metadata["drives"]]
    (store.path / "store.json").write_text(json.dumps(metadata))
    made = resplit(store.path, "time", val=0.0, test=0.5)
    assert not made.split("val") and sum(d.frames for d in made.split("test")) == round(store.rows / 2)
    assert made.split("test")[-1].start + made.split("test")[-1].frames == store.rows


def test_shares_of_items_of_different_sizes() -> None:
    sizes = [1000, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    for seed in range(20):
        splits = by_share(sizes, seed, 0.03, 0.03)
        assert splits[0] == "train" and {"val", "test"} < set(splits)
    assert sorted(by_share([5, 5, 5], 0, 0.1, 0.1)) == ["test", "train", "val"]
    assert sorted(by_share([5, 5], 0, 0.0, 0.4)) == ["test", "train"]
    assert by_share([5], 0, 0.0, 0.0) == ["train"]
    with pytest.raises(ValueError):
        by_share([5, 5], 0, 0.1, 0.1)


def test_cuts_of_one_recording() -> None:
    parts = by_time([100, 100], 1.0, 0.6, 0.0)
    assert [(p.split, p.drive, p.start, p.stop) for p in parts] == [
        ("train", 0, 0, 100), ("train", 1, 0, 17), ("test", 1, 20, 100),
    ]  # fmt: skip
    assert [(p.split, p.start, p.stop) for p in by_time([100], 1.0, 0.8, 0.2)] == [("train", 0, 77), ("val", 80, 100)]


def test_user_errors(grouped: Store, refuse: Refuse, tmp_path: Path) -> None:
    command = ("data", "split", grouped.path, "--by")
    refuse(*command, "frame", message="--by frame: drives are split by 'drive' or by 'time'")
    refuse(*command, "tme", message="did you mean 'time'")
    refuse(*command, "drive", "--val", 1, message="--val 1: the share of a split must be at least 0 and below 1")
    refuse(
        *command, "drive", "--val", 0.5, "--test", 0.5, message="--val 0.5 and --test 0.5 leave nothing for training"
    )
    refuse(*command, "drive", "--seed", -1, message="--seed must be at least 0")
    refuse(*command, "time", "--val", 0.01, message="too short to be cut, no frames are left for val; use --by drive")
    refuse(*command, "drive", "--output", grouped.path, message="already exists; choose another")
    refuse("data", "split", tmp_path / "nowhere", "--by", "drive", message="there is no store at")
    few = resplit(grouped.path, "drive", val=0.0, test=0.5, output=tmp_path / "few")
    metadata = json.loads((few.path / "store.json").read_text())
    metadata["drives"] = [{**drive, "group": f"g{k % 2}"} for k, drive in enumerate(metadata["drives"])]
    (few.path / "store.json").write_text(json.dumps(metadata))
    refuse("data", "split", few.path, "--by", "drive", message="has 2 independent drives, too few for 3 splits")


def test_files_are_copied_without_link_support(grouped: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    made = resplit(grouped.path, "drive", output=tmp_path / "copy")
    assert made.read([0])[0] == grouped.read([0])[0]
