"""Many drives: their format, and the memory for opening a store and choosing clips. Speed is not tested here."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.sample_order import SampleOrder
from daydrive.data.store import drives
from daydrive.data.store.drives import DriveInfo, Drives
from daydrive.data.store.store import Store, read_metadata, write_metadata
from daydrive.errors import UserError


def entries(count: int, frames: int) -> list[dict[str, Any]]:
    """Every tenth drive is for validation, every seventh names the origin of its actions."""
    return [
        {
            "name": f"2026-01-01/drive_{k:06d}",
            "split": "train" if k % 10 else "val",
            "start": k * frames,
            "frames": frames,
            **({} if k % 7 else {"made_from": {"steering": "poses"}}),
        }
        for k in range(count)
    ]


def written(folder: Path, entries: list[dict[str, Any]]) -> Path:
    (folder / "frames.lance").mkdir(parents=True)
    metadata = {"format_version": 1, "hz": 10.0, "image_size": [64, 64], "source": "simulated", "fingerprint": "0"}
    write_metadata(folder, {**metadata, "drives": entries})
    return folder


def test_many_drives_are_stored_as_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = entries(40, 12)
    as_list = Store.open(written(tmp_path / "list", original))
    monkeypatch.setattr(drives, "COLUMNS_FROM", 10)
    monkeypatch.setattr("daydrive.data.store.store.COLUMNS_FROM", 10)
    path = written(tmp_path / "columns", original)
    raw = json.loads((path / "store.json").read_text())
    assert raw["format_version"] == 2 and isinstance(raw["drives"], dict) and "start" not in raw["drives"]
    as_columns = Store.open(path)
    assert as_columns.drives == as_list.drives and as_columns.rows == 480
    assert as_columns.metadata["drives"] == as_list.metadata["drives"] == original
    write_metadata(path, {**as_columns.metadata, "hz": 5.0})
    assert Store.open(path).drives == as_list.drives and read_metadata(path)["drives"] == raw["drives"]
    assert as_columns.drives[-1] == DriveInfo("2026-01-01/drive_000039", "train", 468, 12)
    assert as_columns.drives[1:3] == [as_list.drives[1], as_list.drives[2]] and len(as_columns.split("val")) == 4


@pytest.mark.parametrize(
    "bad",
    [
        [{"name": "d", "split": "trian", "start": 0, "frames": 3}],
        [{"name": "d", "split": "train", "start": 0, "frames": 0}],
        [{"name": 3, "split": "train", "start": 0, "frames": 3}],
        {"name": ["a", "b"], "frames": [3], "split": {"values": ["train"], "of": [0]}},
        {"name": ["a"], "frames": [3], "split": {"values": ["train"], "of": [1]}},
        {"name": ["a"], "frames": [3]},
    ],
)
def test_invalid_drives(tmp_path: Path, bad: Any) -> None:
    path = written(tmp_path / "store", entries(1, 3))
    (path / "store.json").write_text(json.dumps({**read_metadata(path), "drives": bad}))
    with pytest.raises(UserError, match=r"store\.json is not a store's metadata"):
        Store.open(path)


def test_opening_and_sampling_of_a_hundred_million_frames(tmp_path: Path) -> None:
    """10^8 frames in 10^5 drives are opened in less than 100 MB; a batch then needs no more memory than out of 10^4."""

    def peaks(path: Path) -> tuple[int, int]:
        tracemalloc.start()
        store = Store.open(path)
        index = ClipIndex(store, "train", 16)
        order = SampleOrder.plain(len(index), 3)
        opening = tracemalloc.get_traced_memory()[1]
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for first in (0, len(index) - 8):
            clips = [index.clip(int(number)) for number in order.clips(first, 16)]
            assert all(store.locate(clip.start)[0] == store.locate(clip.start + 15)[0] for clip in clips)
        choosing = tracemalloc.get_traced_memory()[1] - held
        tracemalloc.stop()
        return opening, choosing

    SampleOrder.plain(10**6, 0).clips(0, 1)  # what is imported at the first use
    large = written(tmp_path / "large", entries(100_000, 1000))
    few = written(tmp_path / "few", entries(10, 1000))
    assert Store.open(large).rows == 10**8
    (opening, choosing), (_, choosing_of_few) = peaks(large), peaks(few)
    assert opening < 100 * 2**20
    assert choosing < max(2 * choosing_of_few, 100_000)


def test_drives_are_joined_and_looked_up() -> None:
    one, two = Drives(["a", "b"], [0, 1], [0, 4], [4, 2]), Drives(["a"], [2], [0], [5])
    joined = Drives.concatenate([("x", one), ("y", two)])
    assert [drive.name for drive in joined] == ["x/a", "x/b", "y/a"] and joined.rows == 11
    assert joined.at(np.arange(11)).tolist() == [0] * 4 + [1] * 2 + [2] * 5
    assert [joined.of_split(split).tolist() for split in ("train", "val", "test")] == [[0], [1], [2]]
