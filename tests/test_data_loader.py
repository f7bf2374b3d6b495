"""The same batches for any number of workers and after a resume."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from test_data_makers import write_drive

from daydrive.data.loader import ClipLoader
from daydrive.data.prepare import prepare
from daydrive.data.store import Store
from daydrive.errors import UserError
from daydrive.types import Batch, Clip

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker:UserWarning")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loader")
    for k in range(3):
        write_drive(root / "raw" / f"d{k}", 25 + k)
    return prepare("folder", root / "raw", root / "store", (16, 24), workers=1)


def grow(position: int) -> int:
    return 3 if position < 4 else 5


def take(path: Path, count: int, *, num_workers: int = 0, position: int = 0, **more: object) -> list[Batch]:
    settings = {"batch_size": 4, "sequence_length": 5, "frame_skip": 1, "seed": 7, **more}
    loader = ClipLoader(path, "train", num_workers=num_workers, pin_memory=False, position=position, **settings)
    return list(itertools.islice(loader, count))


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.clips == y.clips and torch.equal(x.images, y.images) and torch.equal(x.actions, y.actions)
        for x, y in zip(a, b, strict=True)
    )


def test_workers_do_not_change_the_batches(path: Path) -> None:
    here = take(path, 12, clip_length=grow)
    assert [batch.images.shape[1] for batch in here] == [3] * 4 + [5] * 8
    assert same(here, take(path, 12, num_workers=1, clip_length=grow))
    assert same(here, take(path, 12, num_workers=4, clip_length=grow))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_in_the_middle_of_an_epoch(path: Path, num_workers: int) -> None:
    whole = take(path, 14)
    assert same(whole[8:], take(path, 6, num_workers=num_workers, position=8))


def test_an_epoch_shows_each_clip_at_most_once_and_iterating_again_begins_again(path: Path) -> None:
    loader = ClipLoader(path, "train", batch_size=4, sequence_length=5, frame_skip=1, num_workers=0, seed=7)
    clips = [clip for batch in itertools.islice(loader, loader.batches_per_epoch) for clip in batch.clips]
    assert len(set(clips)) == len(clips) > loader.clips - 4
    assert next(iter(loader)).clips == clips[:4]


def test_ranks_together_take_what_one_would(path: Path) -> None:
    def clips(batch: Batch) -> set[Clip]:
        return set(batch.clips)

    alone = take(path, 4, batch_size=4)
    ranks = [take(path, 4, batch_size=2, rank=rank, world=2) for rank in (0, 1)]
    for step in range(4):
        assert clips(ranks[0][step]) | clips(ranks[1][step]) == clips(alone[step])


def test_too_few_clips_for_a_batch(path: Path) -> None:
    with pytest.raises(UserError, match=r"batch of 500 clips is more than the \d+ clips"):
        take(path, 1, batch_size=500)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_picture_is_one_sentence_from_a_worker_too(
    path: Path, tmp_path: Path, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lance
    import pyarrow as pa

    store = Store.open(path)
    table = store.dataset.to_table()
    jpegs = table.column("image").to_pylist()
    row = store.split("train")[0].start + 9
    jpegs[row] = jpegs[row][:200]
    damaged = tmp_path / "store"
    damaged.mkdir()
    (damaged / "store.json").write_bytes((path / "store.json").read_bytes())
    place = table.schema.get_field_index("image")
    lance.write_dataset(table.set_column(place, "image", pa.array(jpegs, pa.binary())), str(damaged / "frames.lance"))
    with pytest.raises(UserError) as caught:
        take(damaged, 20, num_workers=num_workers)
    message = str(caught.value)
    assert "\n" not in message and f"drive '{store.split('train')[0].name}', frame 9" in message
