"""Adding drives to a store: existing rows stay unchanged, and the store is valid at any time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daydrive.data import sources
from daydrive.data.prepare import prepare as module
from daydrive.data.prepare import split, writer
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.scores import MOTION, add_score, motion
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.resplit import resplit
from daydrive.data.store.store import Store
from daydrive.types import Drive
from helpers.drives import CountedSource, numbered_image, write_drive, write_udacity
from helpers.refusals import refuses


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    for k in range(4):
        write_drive(tmp_path / "raw" / f"d{k}", 6 + k)
    return tmp_path / "raw"


def added(drives: Path, target: Path, **options: Any) -> Store:
    return Store.open(prepare("folder", drives, target, (16, 16), workers=1, add=True, **options))


def rows_of(store: Store) -> list[tuple[Any, ...]]:
    every = np.arange(store.rows)
    jpegs, actions = store.read(every)
    values = store.read_values(every, ["drive", "frame", "time"])
    return list(zip(jpegs, map(bytes, actions), *(values[name].tolist() for name in values), strict=True))


def test_new_drives_are_appended(drives: Path, tmp_path: Path, capsys: Any) -> None:
    target = tmp_path / "store"
    before = added(drives, target)  # no store yet: an ordinary preparation
    there, rows = list(before.drives), rows_of(before)
    files = {file: file.stat().st_mtime_ns for file in (target / "frames.lance" / "data").iterdir()}
    for k in range(4, 10):
        write_drive(drives / f"d{k}", 6 + k)
    store = added(drives, target)
    assert list(store.drives)[:4] == there and rows_of(store)[: len(rows)] == rows
    assert all(file.stat().st_mtime_ns == made for file, made in files.items())
    assert [drive.name for drive in store.drives].count("d0") == 1 and store.rows == sum(6 + k for k in range(10))
    splits = [drive.split for drive in store.drives]
    assert (splits.count("val"), splits.count("test")) == (2, 4)
    assert sorted(rows_of(store)) == sorted(rows_of(whole := fresh(drives, tmp_path)))
    assert store.fingerprint not in (before.fingerprint, whole.fingerprint)
    metadata = store.metadata
    assert metadata["frames"] == store.rows and metadata["repeated_frames"] == whole.metadata["repeated_frames"]

    # the drives of a split do not lie together any more
    indices = [ClipIndex(store, name, 4) for name in ("train", "val", "test")]
    clips = [index.clip(number) for index in indices for number in range(len(index))]
    batch = read_clips(store, clips)
    for clip, images in zip(clips, batch.images, strict=True):
        drive, frame = store.locate(clip.start)
        assert drive.name == clip.drive and abs(int(images[0, 0, 0, 0]) - int(numbered_image(frame)[0, 0, 0])) <= 4
    capsys.readouterr()
    again = added(drives, target)
    assert "already has these drives" in capsys.readouterr().out and again.fingerprint == store.fingerprint
    prepare("folder", drives, target, (16, 16), workers=1)
    assert "is already prepared" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "store", "whole"]


def fresh(drives: Path, tmp_path: Path) -> Store:
    return Store.open(prepare("folder", drives, tmp_path / "whole", (16, 16), workers=1))


@pytest.mark.parametrize("ended_at", ["write_rows", "write_metadata"])
def test_interruption_leaves_the_store_unchanged(
    drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_at: str
) -> None:
    before = added(drives, tmp_path / "store", limit=3)
    rows = rows_of(before)

    def end(*arguments: Any, **_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writer, "write_metadata" if ended_at == "write_metadata" else "_write_rows", end)
        added(drives, tmp_path / "store")
    found = Store.open(tmp_path / "store")
    assert found.fingerprint == before.fingerprint and rows_of(found) == rows
    with monkeypatch.context() as patch:
        patch.setattr(module.shards, "write_shard", lambda *_: pytest.fail("a finished drive is read again"))
        store = added(drives, tmp_path / "store")
    assert sorted(rows_of(store)) == sorted(rows_of(fresh(drives, tmp_path)))
    assert not (tmp_path / "store.partial").exists()
    assert added(drives, tmp_path / "store").fingerprint == store.fingerprint


def test_scores_are_missing_for_new_drives_until_computed(drives: Path, tmp_path: Path, capsys: Any) -> None:
    store = added(drives, tmp_path / "store", limit=3)
    add_score(store, "motion", MOTION, lambda drive: motion(store, drive))
    assert "no values in the columns 'motion'" in (added(drives, tmp_path / "store") and capsys.readouterr().out)
    grown = Store.open(tmp_path / "store")
    values = grown.read_values(np.arange(grown.rows), ["motion"])["motion"]
    assert np.isnan(values[store.rows :]).all() and np.isfinite(values[1:6]).all()
    add_score(grown, "motion", MOTION, lambda drive: motion(grown, drive))
    again = Store.open(tmp_path / "store")
    assert np.isfinite(again.read_values([again.rows - 1], ["motion"])["motion"]).all()


def test_groups_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Grouped(CountedSource):
        def drives(self, *arguments: Any) -> list[Drive]:
            plain = super().drives(*arguments)
            return [Drive(d.name, d.hz, d.frames, length=d.length, group=f"g{i % 5}") for i, d in enumerate(plain)]

    monkeypatch.setitem(sources.SOURCES, "counted", Grouped())
    prepare("counted", None, tmp_path / "store", (16, 16), workers=1, drives=5)
    store = Store.open(prepare("counted", None, tmp_path / "store", (16, 16), workers=1, drives=10, add=True))
    splits = {drive.name: drive.split for drive in store.drives}
    assert len(splits) == 10 and all(splits[f"c{i}"] == splits[f"c{i + 5}"] for i in range(5))


def test_drives_are_added_to_a_resplit_store(drives: Path, tmp_path: Path) -> None:
    added(drives, tmp_path / "store")
    before = resplit(tmp_path / "store", "time", val=0.2, test=0.2)
    write_drive(drives / "d9", 9)
    store = added(drives, tmp_path / "store")
    assert list(store.drives)[:-1] == list(before.drives) and store.drives[-1].name == "d9"
    assert store.metadata["content_fingerprint"] != before.metadata["content_fingerprint"]
    assert resplit(tmp_path / "store", "drive").rows == store.rows


def test_recordings_split_by_time(tmp_path: Path) -> None:
    for name, start in (("a", 0), ("b", 1_000_000)):
        write_udacity(tmp_path / name, [start + 100 * k for k in range(60)])
    for name in ("a", "b"):
        store = Store.open(
            prepare("udacity", tmp_path / name, tmp_path / "store", (16, 16), workers=1, hz=10, add=True)
        )
    assert [drive.split for drive in store.drives] == 2 * ["train", "val", "test"]
    assert [origin["data_root"] for origin in store.metadata["origins"]] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [entry.get("origin", 0) for entry in store.metadata["drives"]] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image_size": (16, 24)}, "image size is [16, 16], not [16, 24]"),
        ({"hz": 5}, "--hz is null, not 5"),
        ({"jpeg_quality": 80}, "jpeg quality is 95, not 80"),
        ({"fit": "crop"}, 'fit is "stretch", not "crop"'),
        ({"dataset": "road"}, 'dataset is "folder", not "road"'),
        ({"overwrite": True}, "use one of them"),
        ({"data_root": "other"}, "already has a drive 'd1', from "),
        ({"data_root": "faster"}, "has 10 frames per second and these drives have 20; set --hz 10"),
        ({"output": "raw"}, "is not a store; choose"),
    ],
)
def test_user_errors(change: dict[str, Any], expected: str, drives: Path, tmp_path: Path) -> None:
    there = fresh(drives, tmp_path).path
    write_drive(tmp_path / "other" / "d1", 9)
    rows = [f"{k / 20},0,0.5,0,1" for k in range(9)]
    write_drive(tmp_path / "faster" / "d9", 9, rows=rows, header="time,steering,throttle,brake,gear")
    metadata = (there / "store.json").read_text()
    places = {key: tmp_path / change[key] for key in ("data_root", "output") if key in change}
    call = {"dataset": "folder", "data_root": drives, "output": there, "image_size": (16, 16), **change, **places}
    assert expected in refuses(lambda: prepare(**call, workers=1, add=True), tmp_path)
    assert (there / "store.json").read_text() == metadata and json.loads(metadata)["table_version"] == 1


def test_split_proportions() -> None:
    for count in (3, 5, 8, 30, 100):
        assert split.by_drive_added(count, {}, 3) == split.by_drive(count, 3)
    assert split.by_drive_added(2, {"train": 6, "val": 2, "test": 4}, 0) == ["train", "train"]
    assert sorted(split.by_drive_added(12, {"train": 6, "val": 1, "test": 1}, 0)).count("test") == 3
    assert split.by_drive_added(1, {"train": 1}, 0) == ["test"]
