"""Which frames are for training, validation and test: whole drives, or contiguous parts with a gap; never by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

GAP_SECONDS = 3.0
TRAIN_SHARE, VAL_SHARE = 0.7, 0.1


@dataclass(frozen=True)
class Part:
    """Frames [start, stop) of the drive with this index."""

    drive: int
    start: int
    stop: int
    split: str


def by_drive(count: int, seed: int) -> list[str]:
    """A split for each of `count` >= 3 drives, shuffled by `seed`.

    From 8 drives on: max(2, N // 14) for val and max(4, N // 6) for test; below that about a quarter for test and
    one drive for val. The rest is for training.

    >>> sorted(by_drive(12, seed=0))
    ['test', 'test', 'test', 'test', 'train', 'train', 'train', 'train', 'train', 'train', 'val', 'val']
    """
    return added(count, {}, seed)


def added(count: int, there: Mapping[str, int], seed: int) -> list[str]:
    """A split for each of `count` further drives, so that with those `there`, of each split, which stay where they are,
    all together are divided as `by_drive` says, as nearly as they can be."""
    total = count + sum(there.values())
    val, test = (max(2, total // 14), max(4, total // 6)) if total >= 8 else (1, max(1, total // 4))
    test = min(max(test - there.get("test", 0), 0), count)
    val = min(max(val - there.get("val", 0), 0), count - test)
    order = np.random.default_rng([seed, total]).permutation(count)
    names = ["train"] * (count - val - test) + ["val"] * val + ["test"] * test
    splits = [""] * count
    for drive, name in zip(order.tolist(), names, strict=True):
        splits[drive] = name
    return splits


def by_share(sizes: Sequence[int], seed: int, val_share: float, test_share: float) -> list[str]:
    """A split for each of some things of these sizes, shuffled by `seed`: those of val and of test come as near to
    their share of the sum as whole things can, at least one where the share isn't 0; the rest is for training.

    ValueError where there are fewer things than splits.
    """
    wanted = [(name, share) for name, share in (("val", val_share), ("test", test_share)) if share > 0.0]
    if len(sizes) <= len(wanted):
        raise ValueError(f"{len(sizes)} things for {len(wanted) + 1} splits")
    order = np.random.default_rng([seed, len(sizes)]).permutation(len(sizes)).tolist()
    splits = ["train"] * len(sizes)
    for k, (name, share) in enumerate(wanted):
        others, taken = len(wanted) - k, 0
        fitting = []
        for thing in order[: len(order) - others] if len(order) > others else []:
            if taken + sizes[thing] / 2 <= share * sum(sizes):
                fitting.append(thing)
                taken += sizes[thing]
        for thing in fitting or [min(order, key=sizes.__getitem__)]:
            splits[thing] = name
            order.remove(thing)
    return splits


def by_time(
    frames: Sequence[int], hz: float, train_share: float = TRAIN_SHARE, val_share: float = VAL_SHARE
) -> list[Part]:
    """Contiguous parts of drives recorded one after the other: first train, then val, the rest for test.

    Train and val each end `GAP_SECONDS` (at most a quarter of the shortest part) before the next begins, since
    neighbouring frames are nearly the same. Where drives end inside a part, the part has several pieces; a piece of
    less than two frames is left out.
    """
    total = sum(frames)
    val, test = round(total * train_share), round(total * (train_share + val_share))
    shortest = min(length for length in (val, test - val, total - test) if length > 0)
    gap = min(round(GAP_SECONDS * hz), shortest // 4)
    ranges = [("train", 0, val - gap * (val < total)), ("val", val, test - gap * (test < total)), ("test", test, total)]
    parts = []
    offset = 0
    for drive, count in enumerate(frames):
        for split, begin, end in ranges:
            start, stop = max(begin, offset), min(end, offset + count)
            if stop - start >= 2:
                parts.append(Part(drive, start - offset, stop - offset, split))
        offset += count
    return parts
