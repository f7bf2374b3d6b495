"""The same batches for any number of workers and ranks, and after a resume."""

from __future__ import annotations

import itertools
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import psutil
import pytest
import torch

from daydrive.config import BalanceConfig, CurriculumConfig, DataConfig
from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.sampling.sample_order import SampleOrder, build_sample_order
from daydrive.data.sampling.shared_memory import HEADER, BufferPool, SharedBatch, release_buffers
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.types import Batch, Clip
from helpers.drives import write_drive


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loader")
    for k in range(3):
        write_drive(root / "raw" / f"d{k}", 25 + k)
    return prepare("folder", root / "raw", root / "store", (16, 24), workers=1)


def grow(sample: int) -> int:
    return 3 if sample < 16 else 5


def take(path: Path, count: int, **more: object) -> list[Batch]:
    index = ClipIndex(Store.open(path), "train", 5)
    return list(itertools.islice(ClipLoader(index, **{"batch_size": 4, "seed": 7, **more}), count))


def demanding(path: Path, mode: str) -> SampleOrder:
    """A curriculum and balancing, so that the order is not trivial."""
    store = Store.open(path)
    data = DataConfig(
        balance=BalanceConfig(mode=mode, strength=1.0), curriculum=CurriculumConfig(phases=2, epochs_per_phase=1)
    )
    return build_sample_order(store, ClipIndex(store, "train", 5), data, 7)


def samples(batches: list[Batch]) -> dict[int, Clip]:
    return {number: clip for batch in batches for number, clip in zip(batch.samples, batch.clips, strict=True)}


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        (x.clips, x.samples) == (y.clips, y.samples)
        and torch.equal(x.images, y.images)
        and torch.equal(x.actions, y.actions)
        and (x.weights is y.weights is None or torch.equal(x.weights, y.weights))
        for x, y in zip(a, b, strict=True)
    )


def test_number_of_workers_does_not_change_the_batches(path: Path) -> None:
    order = demanding(path, "weight")
    here = take(path, 12, clip_length=grow, order=order)
    assert [batch.images.shape[1] for batch in here] == [3] * 4 + [5] * 8
    for num_workers in (1, 2):
        assert same(here, take(path, 12, num_workers=num_workers, clip_length=grow, order=order))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resume_at_any_sample(path: Path, num_workers: int) -> None:
    whole = take(path, 14, order=demanding(path, "sample"))
    assert same(whole[8:], take(path, 6, num_workers=num_workers, first_sample=32, order=demanding(path, "sample")))
    shifted = take(path, 3, first_sample=33)
    assert shifted[0].samples == [33, 34, 35, 36]
    assert shifted[0].clips == [*take(path, 9)[8].clips[1:], take(path, 10)[9].clips[0]]


def test_epochs_are_permutations_and_batches_may_span_them(path: Path) -> None:
    index = ClipIndex(Store.open(path), "train", 5)
    loader = ClipLoader(index, batch_size=4, seed=7)
    assert len(index) % 4, "else no batch lies across two epochs"
    batches = list(itertools.islice(loader, len(index)))
    assert [n for batch in batches for n in batch.samples] == list(range(4 * len(index)))
    clips = [clip for batch in batches for clip in batch.clips]
    epochs = [clips[i : i + len(index)] for i in range(0, len(clips), len(index))]
    assert len(epochs) == 4 and all(len(set(epoch)) == len(index) for epoch in epochs) and epochs[0] != epochs[1]
    assert next(iter(loader)).clips == clips[:4]
    assert all(batch.weights is None for batch in batches)


@pytest.mark.parametrize("mode", ["sample", "weight"])
def test_ranks_partition_the_clips_of_a_step(path: Path, mode: str) -> None:
    order = demanding(path, mode)
    alone = take(path, 10, batch_size=8, order=order)
    for world in (2, 4):
        ranks = [take(path, 10, batch_size=8 // world, rank=r, world=world, order=order) for r in range(world)]
        for step in range(10):
            assert samples([batches[step] for batches in ranks]) == samples([alone[step]])
            assert ranks[1][step].samples == alone[step].samples[1::world]


@pytest.mark.parametrize("world", [1, 2])
def test_weights_of_a_step_sum_to_one_over_the_mean_of_the_ranks(path: Path, world: int) -> None:
    order, first = demanding(path, "weight"), 5
    settings = {"batch_size": 4 // world, "world": world, "accumulation": 3, "first_sample": first, "order": order}
    ranks = [take(path, 12, rank=rank, **settings) for rank in range(world)]
    for step in range(4):
        batches = [batch for taken in ranks for batch in taken[3 * step : 3 * step + 3]]
        found = {n: float(w) for b in batches for n, w in zip(b.samples, b.weights, strict=True)}
        relative = order.weights(first + 12 * step, 12)
        assert relative is not None and len(set(relative.tolist())) > 1
        expected = relative / relative.sum() * world
        assert sum(found.values()) == pytest.approx(world, rel=1e-6)
        assert [found[n] for n in sorted(found)] == pytest.approx(expected.tolist(), rel=1e-6)


def test_fewer_clips_than_a_batch(path: Path) -> None:
    with pytest.raises(UserError, match=r"batch of 500 clips is more than the \d+ clips.*training\.batch_size"):
        take(path, 1, batch_size=500)
    with pytest.raises(UserError, match=r"batch of 20 clips on each of 30 ranks is more"):
        take(path, 1, batch_size=20, world=30)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_image_in_a_worker_gives_one_sentence(
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
    column = table.schema.get_field_index("image")
    lance.write_dataset(table.set_column(column, "image", pa.array(jpegs, pa.binary())), str(damaged / "frames.lance"))
    with pytest.raises(UserError) as caught:
        take(damaged, 20, num_workers=num_workers)
    message = str(caught.value)
    assert "\n" not in message and f"drive '{store.split('train')[0].name}', frame 9" in message


def test_buffers_in_use_are_not_overwritten_and_free_ones_are_reused(path: Path) -> None:
    expected = take(path, 12, clip_length=grow)
    index = ClipIndex(Store.open(path), "train", 5)
    batches = iter(ClipLoader(index, batch_size=4, seed=7, num_workers=1, clip_length=grow))
    held = [next(batches) for _ in range(12)]
    assert same(held, expected)
    view = held[3].images[1, 2:]
    copy = view.clone()
    del held
    for batch in itertools.islice(batches, 12):
        assert batch.images.movedim(2, -1).is_contiguous()
    assert torch.equal(view, copy)


def test_small_buffer_released_meanwhile_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = BufferPool()
    small = pool.acquire(100)
    answers = iter([True])  # in use at first, released by the training a moment later
    monkeypatch.setattr(type(small), "in_use", property(lambda buffer: next(answers, False)))
    assert len(pool.acquire(200).memory) == HEADER + 200


def test_buffers_are_reused_only_if_free_and_large_enough() -> None:
    pool = BufferPool()
    a, b = pool.acquire(100), pool.acquire(100)
    assert a.memory.data_ptr() != b.memory.data_ptr() and a.memory.is_shared() and len(a.memory) == HEADER + 100
    a.pixels((2, 4, 4, 3))[1] = 7
    in_use = SharedBatch(Batch(torch.empty(0), torch.zeros(1, 1, 4), samples=[3]), a, (2, 4, 4, 3), ("test", 0))
    batch = ForkingPickler.loads(ForkingPickler.dumps(in_use))
    assert isinstance(batch, Batch) and batch.images.shape == (1, 2, 3, 4, 4) and batch.samples == [3]
    part = batch.images[0, 1]
    del batch
    assert pool.acquire(100) not in (a, b) and a.in_use and (part == 7).all()
    del part
    assert not a.in_use and pool.acquire(90) is a and a.in_use
    again = ForkingPickler.dumps(in_use)
    batch = ForkingPickler.loads(again)
    assert len(again) < 2000 and batch.images.shape == (1, 2, 3, 4, 4) and a.in_use
    del batch
    assert not a.in_use
    assert len(pool.acquire(200).memory) == HEADER + 200
    held = [pool.acquire(50) for _ in range(9)]
    assert len({slot.number for slot in held}) == 9
    release_buffers("test")


def test_workers_end_when_training_is_killed(road_store: Path, tmp_path: Path) -> None:
    """Including their fork server."""
    script = tmp_path / "training.py"
    script.write_text(
        "import sys, time\n"
        "from daydrive.data.sampling.clips import ClipIndex\n"
        "from daydrive.data.sampling.loader import ClipLoader\n"
        "from daydrive.data.store.store import Store\n"
        "if __name__ == '__main__':\n"
        "    index = ClipIndex(Store.open(sys.argv[1]), 'train', 5)\n"
        "    loader = ClipLoader(index, batch_size=2, num_workers=2)\n"
        "    batches = iter(loader)\n"
        "    next(batches)\n"
        "    print('began', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, str(script), str(road_store)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "began\n"
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 3
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(started, timeout=30)
    for orphan in left:
        orphan.kill()
    assert not left
