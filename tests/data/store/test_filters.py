"""Clips of rows that satisfy a condition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling.clips import ClipIndex, fixed_clips
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.store.concat import merge
from daydrive.data.store.filters import matching_intervals
from daydrive.data.store.store import Store
from helpers.drives import write_drive
from helpers.refusals import refuses

SPEEDS = {
    "train/a": [0, 5, 5, 5, 5, 0, 5, 5, 5, 5, 5, 5],
    "train/b": [5, 5, 5, 0, 5, 5, 5, 5],
    "train/c": [0, 0, 0, 0],
    "val/v": [0, 5, 5, 5, 5, 5],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steering of row k of a drive is k / 20 to the right, -k / 20 in the second half."""
    root = tmp_path_factory.mktemp("filters")
    for name, speeds in SPEEDS.items():
        half = len(speeds) / 2
        rows = [f"{(k if k < half else -k) / 20},0.5,0,{1 if k else -1},{speed}" for k, speed in enumerate(speeds)]
        write_drive(root / "raw" / name, len(speeds), rows, "steering,throttle,brake,gear,speed", (16, 16))
    return prepare("folder", root / "raw", root / "store", (16, 16), workers=1)


def test_clips_contain_only_matching_rows(path: Path) -> None:
    store = Store.open(path)
    assert [drive.name for drive in store.drives] == list(SPEEDS)
    index = ClipIndex(store, "train", 3, where="speed > 2")
    assert index.starts().tolist() == [1, 2, 6, 7, 8, 9, 12, 16, 17]
    assert [index.clip(i).start for i in range(len(index))] == index.starts().tolist()
    assert [index.clip(i).drive for i in (0, 5, 6)] == ["train/a", "train/a", "train/b"]
    assert index.counts([0, 12, 20, 24]).tolist() == [6, 3, 0]
    speeds = np.concatenate(list(SPEEDS.values()))
    assert (index.means(speeds) == 5).all()
    assert ClipIndex(store, "train", 2, frame_skip=2, where="speed > 2").starts().tolist() == index.starts().tolist()
    assert ClipIndex(store, "val", 3, where="speed > 2").starts().tolist() == [25, 26, 27]
    assert [clip.start for clip in fixed_clips(store, "val", 3, 9, where="speed > 2")] == [25, 26, 27]
    assert (
        ClipIndex(store, "train", 3, where="true").starts().tolist() == ClipIndex(store, "train", 3).starts().tolist()
    )


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("drive = 'train/b' AND NOT speed < 1", [12, 13, 14, 16, 17, 18, 19]),
        ("steering > 0.125 or steering < -0.52", [3, 4, 5, 11, 15]),
        ("gear = -1", [0, 12, 20, 24]),
        ("frame between 10 and 99", [10, 11]),
        ("drive like '%v' and abs(steering) < 0.075 and time >= 0.0", [24, 25]),
        ("frame IN (7) and drive = 'it''s ; none' or frame = 11", [11]),
    ],
)
def test_conditions(path: Path, condition: str, rows: list[int]) -> None:
    found = matching_intervals(Store.open(path), condition)
    assert [row for first, end in found for row in range(first, end)] == rows


def test_missing_values_do_not_match(path: Path, tmp_path: Path) -> None:
    import shutil

    from daydrive.data.quality.scores import add_score

    store = Store.open(shutil.copytree(path, tmp_path / "store"))
    values = np.arange(store.rows, dtype=np.float32)
    values[3:5] = np.nan
    add_score(store, "Odd name", "planted", lambda drive: iter([values[drive.start : drive.start + drive.frames]]))
    for condition in ("`Odd name` > -1", "not `Odd name` < -1", "`Odd name` != 2.5 or true"):
        assert matching_intervals(Store.open(store.path), condition).tolist() == [[0, 3], [5, store.rows]]


def test_merged_store_is_filtered_per_member(path: Path, tmp_path: Path) -> None:
    import shutil

    merged = merge([path, shutil.copytree(path, tmp_path / "other")], tmp_path / "merged")
    rows = Store.open(path).rows
    once = ClipIndex(Store.open(path), "train", 3, where="speed > 2").starts()
    assert ClipIndex(merged, "train", 3, where="speed > 2").starts().tolist() == [*once, *(once + rows)]
    assert matching_intervals(merged, "true").tolist() == [[0, 2 * rows]]


def test_workers_and_ranks_use_the_same_filtered_clips(path: Path) -> None:
    def clips(**more: object) -> list[int]:
        loader = ClipLoader(ClipIndex(Store.open(path), "train", 3, where="speed > 2"), batch_size=3, **more)  # type: ignore[arg-type]
        batches = iter(loader)
        return [clip.start for _ in range(3) for clip in next(batches).clips]

    alone = clips()
    assert sorted(alone) == [1, 2, 6, 7, 8, 9, 12, 16, 17]
    assert clips(num_workers=1) == alone


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("sped > 2", "has no column 'sped'; did you mean 'speed'?"),
        ("stering > 0", "did you mean 'steering'?"),
        ("image = 3", "has no column 'image'"),
        ("speed >", "not a valid condition over the columns"),
        ("speed + 1", "is not a condition: it has the type double"),
        ("speed > 2; drop table frames", "; is not allowed in a condition"),
        ("speed > 2 -- fast", "-- is not allowed in a condition"),
        ("speeed(3) > 2", "not a valid condition over the columns"),
        ("speed in (select 1)", "has no column 'select'"),
        ("speed > 'fast'", "not a valid condition over the columns"),
        ("(speed > 2", "not a valid condition over the columns"),
        ("speed > 100", "data.filter = \"speed > 100\" matches no rows of the split 'train'"),
        ("speed = 0", 'that matches data.filter = "speed = 0" has 4 frames; lower data.sequence_length to at most 4'),
    ],
)
def test_invalid_conditions(path: Path, tmp_path: Path, condition: str, expected: str) -> None:
    assert expected in refuses(lambda: ClipIndex(Store.open(path), "train", 5, where=condition), tmp_path)
