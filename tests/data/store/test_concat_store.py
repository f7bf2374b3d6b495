"""Merged stores: rows, drives, weights, and unsupported operations."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from daydrive import cli
from daydrive.config import BalanceConfig, CurriculumConfig, DataConfig
from daydrive.data.prepare.prepare import prepare
from daydrive.data.quality.check import find_bad_rows
from daydrive.data.quality.scores import add_score
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.sampling.sample_order import build_sample_order
from daydrive.data.store.concat import merge
from daydrive.data.store.resplit import resplit
from daydrive.data.store.store import ConcatStore, Store
from helpers.drives import write_drive
from helpers.refusals import refuses

LENGTH = 4


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """`one` with drives of 30 and 9 frames and `speed`, `two` with drives of 20 and 9 and another column too."""
    root = tmp_path_factory.mktemp("merged")
    for name, frames, more in (("one", 30, ""), ("two", 20, ",7")):
        header = "steering,throttle,brake,gear,speed" + ",more" * bool(more)
        for split, count in (("train", frames), ("val", 9)):
            rows = [f"{k / 100},0.5,0,1,{k}{more}" for k in range(count)]
            write_drive(root / f"raw-{name}" / split / "d", count, rows, header, (16, 24))
        prepare("folder", root / f"raw-{name}", root / name, (16, 24), workers=1)
    return [root / "one", root / "two"]


@pytest.fixture
def merged(stores: list[Path], tmp_path: Path) -> ConcatStore:
    return merge(stores, tmp_path / "deep" / "merged", [3, 1])


def test_command_merges_and_result_opens_as_a_store(
    stores: list[Path], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for weights in (["--weights", "3", "1"], ["--weights", "3,1"]):
        arguments = ["data", "merge", *map(str, stores[:1]), *weights, "--output", "merged", str(stores[1])]
        monkeypatch.setattr(sys, "argv", ["daydrive", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0 and [file.name for file in (here / "merged").iterdir()] == ["store.json"]
        assert Store.open("merged").weights == [3.0, 1.0]
        shutil.rmtree(here / "merged")


def test_rows_are_those_of_the_members(merged: ConcatStore, stores: list[Path]) -> None:
    store = Store.open(merged.path)
    one, two = map(Store.open, stores)
    assert (store.rows, store.hz, store.image_size) == (one.rows + two.rows, one.hz, one.image_size)
    assert [drive.name for drive in store.drives] == ["one/train/d", "one/val/d", "two/train/d", "two/val/d"]
    assert [drive.start for drive in store.drives] == [0, 30, 39, 59]
    assert store.locate(60) == (store.drives[3], 1)
    assert "speed" in store.schema.names and "more" not in store.schema.names
    assert store.metadata["values"].keys() >= {"speed"} and len(store.metadata["drives"]) == 4
    rows = np.array([50, 3, 39, 50, 38])
    values = store.read_values(rows, ["drive", "frame", "speed"])
    assert values["drive"].tolist() == ["two/train/d", "one/train/d", "two/train/d", "two/train/d", "one/val/d"]
    assert values["frame"].tolist() == values["speed"].tolist() == [11, 3, 0, 11, 8]
    jpegs, actions = store.read(rows)
    expected = [two.read([11]), one.read([3]), two.read([0]), two.read([11]), one.read([38])]
    assert jpegs == [jpeg for (jpeg,), _ in expected] and np.array_equal(actions, [a[0] for _, a in expected])
    assert not find_bad_rows(store)
    assert len(pickle.dumps(store)) < 400 and pickle.loads(pickle.dumps(store)).drives == store.drives


def test_a_batch_needs_one_read_per_member(merged: ConcatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    for k, member in enumerate(merged.members):
        take = member.dataset.take
        monkeypatch.setattr(
            member.dataset, "take", lambda rows, k=k, take=take, **more: reads.append(k) or take(rows, **more)
        )
    index = ClipIndex(merged, "train", LENGTH)
    clips = [index.clip(i) for i in (40, 0, 27, 5)]
    batch = read_clips(merged, clips)
    assert reads == [0, 1] and [clip.drive[:3] for clip in clips] == ["two", "one", "two", "one"]
    for images, actions, clip in zip(batch.images, batch.actions, clips, strict=True):
        (alone,) = read_clips(merged, [clip]).images
        assert (images == alone).all()
        assert np.allclose(actions[:, 0], (merged.locate(clip.start)[1] + np.arange(LENGTH - 1)) / 100)


def drawn(merged: ConcatStore, data: DataConfig, passes: int = 4) -> list[float]:
    """Samples of each member in one epoch, relative to its number of clips."""
    index = ClipIndex(merged, "train", LENGTH)
    numbers = build_sample_order(merged, index, data, 0).clips(0, passes * len(index))
    return [float((numbers < 27).sum()) / 27 / passes, float((numbers >= 27).sum()) / 17 / passes]


def test_weights_scale_the_sampling_frequency(merged: ConcatStore, stores: list[Path], tmp_path: Path) -> None:
    one, two = drawn(merged, DataConfig(), 8)
    assert one / two == pytest.approx(3, rel=0.06) and 27 * one + 17 * two == pytest.approx(44)
    even = merge(stores, tmp_path / "even", [2, 2])
    assert drawn(even, DataConfig()) == [1, 1]
    balanced = DataConfig(balance=BalanceConfig(strength=0.0))
    assert drawn(merged, balanced, 8) == pytest.approx([one, two], abs=0.02)
    phases = DataConfig(curriculum=CurriculumConfig(by="speed", phases=2, epochs_per_phase=1))
    numbers = build_sample_order(merged, ClipIndex(merged, "train", LENGTH), phases, 0).clips(0, 22)
    speeds = ClipIndex(merged, "train", LENGTH).means(merged.read_values(np.arange(merged.rows), ["speed"])["speed"])
    assert speeds[numbers].max() <= np.median(speeds) and (numbers < 27).sum() > 2 * (numbers >= 27).sum()


def test_order_is_resumable_and_shared_by_ranks(merged: ConcatStore) -> None:
    index = ClipIndex(merged, "train", LENGTH)
    order = build_sample_order(merged, index, DataConfig(), 5)

    def take(count: int, **more: object) -> dict[int, tuple[str, int]]:
        loader = ClipLoader(index, order=order, **more)  # type: ignore[arg-type]
        batches = list(itertools.islice(loader, count))
        return {n: (c.drive, c.start) for b in batches for n, c in zip(b.samples, b.clips, strict=True)}

    whole = take(8, batch_size=8)
    assert take(4, batch_size=8, first_sample=32, num_workers=1) == {n: c for n, c in whole.items() if n >= 32}
    ranks = [take(8, batch_size=4, world=2, rank=rank) for rank in range(2)]
    assert ranks[0] | ranks[1] == whole and not ranks[0].keys() & ranks[1].keys()


def test_unsupported_operations(merged: ConcatStore, tmp_path: Path) -> None:
    assert "score each member" in refuses(lambda: add_score(merged, "x", "", lambda drive: iter([])), tmp_path)
    assert "split each member" in refuses(lambda: resplit(merged.path, "drive"), tmp_path)
    assert "has no table of its own" in refuses(lambda: merged.dataset, tmp_path)


def test_missing_or_changed_member(merged: ConcatStore, stores: list[Path], tmp_path: Path) -> None:
    moved = shutil.copytree(stores[1], tmp_path / "moved")
    made = merge([stores[0], moved], tmp_path / "made")
    metadata = json.loads((moved / "store.json").read_text())
    (moved / "store.json").write_text(json.dumps({**metadata, "fingerprint": "0" * 32}))
    message = refuses(lambda: Store.open(made.path), tmp_path)
    assert f"the store {moved} has changed since the merged store" in message and "daydrive data merge" in message
    shutil.rmtree(moved)
    assert "cannot open its member 'moved': there is no store at" in refuses(lambda: Store.open(made.path), tmp_path)
    file = made.path / "store.json"
    for key, bad in (("members", [{"name": "a"}]), ("members", 3), ("format_version", 3)):
        file.write_text(json.dumps({**json.loads((merged.path / "store.json").read_text()), key: bad}))
        refuses(lambda: Store.open(made.path), tmp_path)


def test_incompatible_stores(merged: ConcatStore, stores: list[Path], small_store: Path, tmp_path: Path) -> None:
    def refused(expected: str, stores: list[Path], weights: list[float] | None = None, output: str = "out") -> None:
        assert expected in refuses(lambda: merge(stores, tmp_path / output, weights), tmp_path)

    refused("at least two stores", stores[:1])
    refused(f"{stores[0]} has images of 16x24 and {small_store} images of 32x32", [stores[0], small_store])
    slow = shutil.copytree(stores[1], tmp_path / "slow")
    metadata = json.loads((slow / "store.json").read_text())
    (slow / "store.json").write_text(json.dumps({**metadata, "hz": 5.0}))
    refused(f"has 10 frames per second and {slow} 5 frames per second", [stores[0], slow])
    refused("is listed twice", [stores[0], stores[1], stores[0]])
    refused("is a merged store itself", [stores[0], merged.path])
    refused("--weights has 1 values for 2 stores", stores, [1])
    refused("weights must be above 0", stores, [1, 0])
    refused("already exists", stores, output="slow")
    refused("there is no store at", [stores[0], tmp_path / "nowhere"])


def test_members_with_the_same_name_get_unique_names(stores: list[Path], tmp_path: Path) -> None:
    other = shutil.copytree(stores[0], tmp_path / "elsewhere" / "one")
    assert merge([*stores, other], tmp_path / "merged").names == ["one", "two", "one-2"]
