"""Clips and their batches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from daydrive.data.prepare.prepare import prepare
from daydrive.data.sampling.clips import ClipIndex, combine, fixed_clips, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from helpers.drives import numbered_image, write_drive


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Train drives of 12, 3 and 20 frames; frame k shows numbered_image(k); steering k / 1000, gear -1 every fourth."""
    root = tmp_path_factory.mktemp("clips")
    for k, frames in enumerate((12, 3, 20)):
        rows = [f"{i / 1000},{i / 100},0,{-1 if i % 4 == 3 else 1}" for i in range(frames)]
        write_drive(root / "raw" / "train" / f"d{k}", frames, rows)
    write_drive(root / "raw" / "val" / "v", 6)
    write_drive(root / "raw" / "test" / "t", 6)
    return Store.open(prepare("folder", root / "raw", root / "store", (24, 32), workers=1))


def test_clips_do_not_cross_drives(store: Store) -> None:
    index = ClipIndex(store, "train", sequence_length=4, frame_skip=1)
    clips = [index.clip(i) for i in range(len(index))]
    assert len(index) == 9 + 17 and len(set(clips)) == len(clips)
    for clip in clips:
        (drive,) = [d for d in store.drives if d.name == clip.drive]
        assert drive.start <= clip.start and clip.start + 4 <= drive.start + drive.frames
    strided = ClipIndex(store, "train", 4, frame_skip=2, stride=3)
    assert [strided.clip(i).start for i in range(len(strided))] == [0, 3, 15, 18, 21, 24, 27]
    with pytest.raises(IndexError):
        index.clip(len(index))


def test_batch_has_images_and_the_actions_between_them(store: Store) -> None:
    index = ClipIndex(store, "train", 5)
    clips = [index.clip(i) for i in (20, 0, 20, 3)]
    batch = read_clips(store, clips)
    assert batch.images.shape == (4, 5, 3, 24, 32) and batch.images.dtype == torch.uint8
    assert batch.images.movedim(2, -1).is_contiguous() and batch.clips == clips
    assert batch.actions.shape == (4, 4, 4) and batch.actions.dtype == torch.float32
    for b, clip in enumerate(clips):
        _, frame = store.locate(clip.start)
        colour = batch.images[b, :, :, 12, 16].int()
        expected = torch.stack([torch.from_numpy(numbered_image(frame + t)[0, 0]) for t in range(5)]).int()
        assert (colour - expected).abs().max() <= 4
        assert torch.allclose(batch.actions[b, :, 0], (frame + torch.arange(4)) / 1000)


def test_frame_skip_combines_the_actions(store: Store) -> None:
    clip = ClipIndex(store, "train", 3, frame_skip=4).clip(0)
    batch = read_clips(store, [clip])
    assert (batch.images[0, :, 0, 0, 0].int() - torch.tensor([0, 4, 8])).abs().max() <= 3
    expected = torch.tensor([[0.0015, 0.015, 0, -1], [0.0055, 0.055, 0, -1]])
    assert torch.allclose(batch.actions[0], expected, atol=1e-6)
    pairs = combine(np.array([[[0, 0, 1, 1], [1, 0.5, 0, -1], [1, 1, 0, 0], [0, 0, 0, 1]]], dtype=np.float32), 2)
    assert pairs.tolist() == [[[0.5, 0.25, 0.5, -1], [0.5, 0.5, 0, 1]]]


def test_one_frame_and_mixed_lengths(store: Store) -> None:
    batch = read_clips(store, [ClipIndex(store, "val", 1).clip(5)])
    assert batch.images.shape[1] == 1 and batch.actions.shape == (1, 0, 4)
    with pytest.raises(ValueError):
        read_clips(store, [ClipIndex(store, "train", n).clip(0) for n in (2, 3)])


def test_fixed_clips_are_evenly_spaced_and_distinct(store: Store) -> None:
    clips = fixed_clips(store, "train", 4, 6, frame_skip=1)
    assert len(set(clips)) == 6 and clips == fixed_clips(store, "train", 4, 6, 1)
    assert clips[0].start == 0 and clips[-1].start == 31
    assert len(fixed_clips(store, "val", 4, 100)) == 3 and len(fixed_clips(store, "val", 4, 1)) == 1


def test_drives_are_too_short(store: Store) -> None:
    with pytest.raises(UserError, match=r"'train'.*longest has 20 frames; lower data\.sequence_length to at most 20"):
        ClipIndex(store, "train", 21)
    with pytest.raises(UserError, match=r"longest has 20 frames; lower data\.sequence_length to at most 7"):
        ClipIndex(store, "train", 8, frame_skip=3)
    with pytest.raises(UserError, match="did you mean 'train'"):
        ClipIndex(store, "trian", 2)


def test_store_reads_rows_in_any_order_and_is_pickled_as_a_path(store: Store) -> None:
    jpegs, actions = store.read([7, 2, 7, 0])
    assert jpegs[0] == jpegs[2] != jpegs[1] and np.allclose(actions[:, 0], [0.007, 0.002, 0.007, 0])
    assert store.dataset is not None
    pickled = pickle.dumps(store)
    assert len(pickled) < 400
    assert pickle.loads(pickled).fingerprint == store.fingerprint
    with pytest.raises(UserError, match="rows 0 to"):
        store.read([store.rows])


def test_means_of_a_column_over_the_clips(store: Store) -> None:
    values = np.arange(store.rows, dtype=np.float64)
    values[5], values[20:25] = np.nan, np.inf
    index = ClipIndex(store, "train", 3, frame_skip=2, stride=3)
    assert (
        index.starts().tolist() == [index.clip(i).start for i in range(len(index))] == [0, 3, 6, 15, 18, 21, 24, 27, 30]
    )
    means = index.means(values)
    assert means[:5].tolist() == [2, (3 + 4 + 6 + 7) / 4, 8, 17, 18.5] and means[5] == 25
    assert np.isnan(ClipIndex(store, "train", 3).means(np.full(store.rows, np.nan))).all()
    assert ClipIndex(store, "test", 6).means(values).tolist() == [store.rows - 3.5]
