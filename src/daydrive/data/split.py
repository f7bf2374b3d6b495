"""Which frames are for training, validation and test: whole drives, or contiguous parts with a gap; never by frame."""

from __future__ import annotations

from collections.abc import Sequence
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
    """
    if count >= 8:
        val, test = max(2, count // 14), max(4, count // 6)
        if count - val - test < 1:
            raise AssertionError(f"{count} drives leave none for training")
    else:
        val, test = 1, max(1, count // 4)
    order = np.random.default_rng([seed, count]).permutation(count)
    names = ["train"] * (count - val - test) + ["val"] * val + ["test"] * test
    splits = [""] * count
    for drive, name in zip(order.tolist(), names, strict=True):
        splits[drive] = name
    return splits


def by_time(frames: Sequence[int], hz: float) -> list[Part]:
    """Contiguous parts of drives recorded one after the other: 70 % train, 10 % val, the last 20 % test.

    Train and val each end `GAP_SECONDS` (at most a quarter of the shortest part) before the next begins, since
    neighbouring frames are nearly the same. Where drives end inside a part, the part has several pieces.
    """
    total = sum(frames)
    val, test = round(total * TRAIN_SHARE), round(total * (TRAIN_SHARE + VAL_SHARE))
    gap = min(round(GAP_SECONDS * hz), (test - val) // 4)
    ranges = [("train", 0, val - gap), ("val", val, test - gap), ("test", test, total)]
    parts = []
    offset = 0
    for drive, count in enumerate(frames):
        for split, begin, end in ranges:
            start, stop = max(begin, offset), min(end, offset + count)
            if stop - start >= 2:
                parts.append(Part(drive, start - offset, stop - offset, split))
        offset += count
    return parts
