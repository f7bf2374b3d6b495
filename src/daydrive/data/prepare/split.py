"""Splitting into training, validation and test: by whole drives or contiguous segments with gaps, never by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GAP_SECONDS = 3.0
TRAIN_SHARE, VAL_SHARE = 0.7, 0.1


@dataclass(frozen=True)
class SplitSegment:
    """Frames [start, stop) of the drive with index `drive`, assigned to a split."""

    drive: int
    start: int
    stop: int
    split: str


def by_drive(count: int, seed: int) -> list[str]:
    """Assign a split to each of `count` >= 3 drives, shuffled by `seed`.

    With N >= 8 drives: max(2, N // 14) for val and max(4, N // 6) for test; with fewer, about a quarter for test and
    one drive for val. The rest is for training.

    >>> sorted(by_drive(12, seed=0))
    ['test', 'test', 'test', 'test', 'train', 'train', 'train', 'train', 'train', 'train', 'val', 'val']
    """
    return by_drive_added(count, {}, seed)


def by_drive_added(count: int, existing: Mapping[str, int], seed: int) -> list[str]:
    """Assign a split to each of `count` additional drives, so that together with the `existing` number of drives per
    split they match the proportions of `by_drive` as closely as possible."""
    total = count + sum(existing.values())
    val, test = (max(2, total // 14), max(4, total // 6)) if total >= 8 else (1, max(1, total // 4))
    test = min(max(test - existing.get("test", 0), 0), count)
    val = min(max(val - existing.get("val", 0), 0), count - test)
    order = np.random.default_rng([seed, total]).permutation(count)
    names = ["train"] * (count - val - test) + ["val"] * val + ["test"] * test
    splits = [""] * count
    for drive, name in zip(order.tolist(), names, strict=True):
        splits[drive] = name
    return splits


def by_share(sizes: Sequence[int], seed: int, val_share: float, test_share: float) -> list[str]:
    """Assign a split to each item of the given sizes, shuffled by `seed`. The items of val and test approximate their
    share of the total size, with at least one item for a share above 0; the rest is for training.

    Raises ValueError with fewer items than splits.
    """
    requested = [(name, share) for name, share in (("val", val_share), ("test", test_share)) if share > 0.0]
    if len(sizes) <= len(requested):
        raise ValueError(f"{len(sizes)} items for {len(requested) + 1} splits")
    order = np.random.default_rng([seed, len(sizes)]).permutation(len(sizes)).tolist()
    splits = ["train"] * len(sizes)
    for k, (name, share) in enumerate(requested):
        remaining, total = len(requested) - k, 0
        selected = []
        for item in order[: len(order) - remaining] if len(order) > remaining else []:
            if total + sizes[item] / 2 <= share * sum(sizes):
                selected.append(item)
                total += sizes[item]
        for item in selected or [min(order, key=sizes.__getitem__)]:
            splits[item] = name
            order.remove(item)
    return splits


def by_time(
    frames: Sequence[int], hz: float, train_share: float = TRAIN_SHARE, val_share: float = VAL_SHARE
) -> list[SplitSegment]:
    """Cut drives, recorded one after the other, into contiguous segments: first train, then val, the rest for test.

    Train and val end `GAP_SECONDS` (at most a quarter of the shortest split) before the next split begins, because
    neighbouring frames are nearly identical. A split that spans several drives has a segment in each; segments of less
    than two frames are dropped.
    """
    total = sum(frames)
    val, test = round(total * train_share), round(total * (train_share + val_share))
    shortest = min(length for length in (val, test - val, total - test) if length > 0)
    gap = min(round(GAP_SECONDS * hz), shortest // 4)
    ranges = [("train", 0, val - gap * (val < total)), ("val", val, test - gap * (test < total)), ("test", test, total)]
    segments = []
    offset = 0
    for drive, count in enumerate(frames):
        for split, range_start, range_end in ranges:
            start, stop = max(range_start, offset), min(range_end, offset + count)
            if stop - start >= 2:
                segments.append(SplitSegment(drive, start - offset, stop - offset, split))
        offset += count
    return segments
