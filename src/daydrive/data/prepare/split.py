"""Splitting into training, validation and test: by whole drives or contiguous segments with gaps, never by frame.

Whole drives are shuffled. Where that leaves a split far from its share of the frames, because the drives are few or of
very different lengths, they are chosen by their lengths; where even then too little is left for training, they are cut
by time, if they are long enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GAP_SECONDS = 3.0
TRAIN_SHARE, VAL_SHARE = 0.7, 0.1
FEW = 8
"""Number of drives below which one is used for validation, and drives may be cut by time."""
SHARE_LIMITS = {"train": 1.0, "val": 0.15, "test": 0.25}
"""Largest share of the frames of a split whose drives are chosen by their lengths."""
MIN_SHARES = {"train": 0.5, "val": 0.03, "test": 0.06}
"""Share of the frames of a split below which few drives are cut by time."""
MAX_IMBALANCE = 1.5
"""Ratio between the frames of a split and its share of the drives above which drives are chosen by their lengths."""
MIN_SEGMENT_SECONDS = 8.0
"""Length of val and test (s) from which drives are cut by time."""


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
    val, test = (max(2, total // 14), max(4, total // 6)) if total >= FEW else (1, max(1, total // 4))
    test = min(max(test - existing.get("test", 0), 0), count)
    val = min(max(val - existing.get("val", 0), 0), count - test)
    order = np.random.default_rng([seed, total]).permutation(count)
    names = ["train"] * (count - val - test) + ["val"] * val + ["test"] * test
    splits = [""] * count
    for drive, name in zip(order.tolist(), names, strict=True):
        splits[drive] = name
    return splits


def by_frames(sizes: Sequence[int], existing: Mapping[str, tuple[int, int]], seed: int) -> list[str]:
    """Assign a split to each of several additional drives of the given sizes (frames), as `by_drive_added` does; where
    that leaves a split far from its share of the frames, drives are chosen so that the frames match.

    existing: number of drives and of frames that each split already has.

    >>> by_frames([29, 1000, 891, 900], {}, seed=1)
    ['val', 'train', 'train', 'test']
    """
    if not sizes:
        return []
    counts = {name: drives for name, (drives, _) in existing.items()}
    splits = by_drive_added(len(sizes), counts, seed)
    present = {name: existing.get(name, (0, 0))[1] for name in SHARE_LIMITS}
    total, drives = sum(sizes) + sum(present.values()), len(sizes) + sum(counts.values())
    wanted: dict[str, float] = {}
    frames: dict[str, int] = {}
    for name in SHARE_LIMITS:
        wanted[name] = total * (splits.count(name) + counts.get(name, 0)) / drives
        frames[name] = present[name] + sum(s for s, split in zip(sizes, splits, strict=True) if split == name)
    ratios = [(frames[name] + 1) / (wanted[name] + 1) for name in SHARE_LIMITS]
    uneven = max(*ratios, *(1 / ratio for ratio in ratios)) > MAX_IMBALANCE
    if not uneven and (drives >= FEW or frames["train"] == max(frames.values())):
        return splits
    missing = {name: min(wanted[name], SHARE_LIMITS[name] * total) - present[name] for name in ("val", "test")}
    return _first_fit(sizes, seed, {name: count for name, count in missing.items() if count >= min(sizes) / 2})


def should_cut(sizes: Sequence[int], splits: Sequence[str], hz: float) -> bool:
    """Whether drives of the given sizes (frames) should rather be cut by time than be assigned to `splits`: they are
    few, one of the splits gets too little, and the segments of val and test would be long enough."""
    total = sum(sizes)
    frames = [sum(s for s, split in zip(sizes, splits, strict=True) if split == name) for name in MIN_SHARES]
    too_little = any(count < share * total for count, share in zip(frames, MIN_SHARES.values(), strict=True))
    shortest = min(VAL_SHARE, 1.0 - TRAIN_SHARE - VAL_SHARE) * total
    return len(sizes) < FEW and too_little and shortest >= MIN_SEGMENT_SECONDS * hz


def by_share(sizes: Sequence[int], seed: int, val_share: float, test_share: float) -> list[str]:
    """Assign a split to each item of the given sizes, shuffled by `seed`. The items of val and test approximate their
    share of the total size, with at least one item for a share above 0; the rest is for training.

    Raises ValueError with fewer items than splits.
    """
    requested = [(name, share) for name, share in (("val", val_share), ("test", test_share)) if share > 0.0]
    if len(sizes) <= len(requested):
        raise ValueError(f"{len(sizes)} items for {len(requested) + 1} splits")
    return _first_fit(sizes, seed, {name: share * sum(sizes) for name, share in requested})


def _first_fit(sizes: Sequence[int], seed: int, wanted: Mapping[str, float]) -> list[str]:
    """Assign items, shuffled by `seed`, to the splits of `wanted` until each has about the size given there, with at
    least one item each as long as there are any; the rest is for training."""
    order = np.random.default_rng([seed, len(sizes)]).permutation(len(sizes)).tolist()
    splits = ["train"] * len(sizes)
    for k, (name, size) in enumerate(wanted.items()):
        remaining, total = len(wanted) - k, 0
        selected = []
        for item in order[: len(order) - remaining] if len(order) > remaining else []:
            if total + sizes[item] / 2 <= size:
                selected.append(item)
                total += sizes[item]
        for item in selected or sorted(order, key=sizes.__getitem__)[:1]:
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
