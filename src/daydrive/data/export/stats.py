"""Least, greatest, mean and spread of the features of a dataset, as LeRobot keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stats:
    """min, max, mean, std: arrays of a feature's shape, (3, 1, 1) for pictures; count: how many rows were seen."""

    min: Array
    max: Array
    mean: Array
    std: Array
    count: int

    def lists(self) -> dict[str, Any]:
        """As JSON and Parquet take it."""
        arrays = {name: np.nan_to_num(getattr(self, name)).tolist() for name in ("min", "max", "mean", "std")}
        return {**arrays, "count": [self.count]}


def of_rows(values: npt.ArrayLike) -> Stats:
    """Of (N, D); NaN counts for nothing."""
    rows = np.asarray(values, dtype=np.float64)
    empty = np.isnan(rows).all(axis=0)
    known = np.where(empty, 0.0, rows)
    return Stats(
        np.nanmin(known, axis=0),
        np.nanmax(known, axis=0),
        np.nanmean(known, axis=0),
        np.nanstd(known, axis=0),
        len(rows),
    )


class ImageStats:
    """Of the pictures that were added, uint8 (H, W, 3), in [0, 1] by colour."""

    def __init__(self) -> None:
        self.seen: list[tuple[Array, Array, Array, Array]] = []

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        pixels = image.reshape(-1, 3) / 255.0
        self.seen.append((pixels.min(axis=0), pixels.max(axis=0), pixels.mean(axis=0), (pixels**2).mean(axis=0)))

    def stats(self) -> Stats:
        least, greatest, means, square = (np.stack(column) for column in zip(*self.seen, strict=True))
        middle = means.mean(axis=0)
        spread = np.sqrt(np.maximum(square.mean(axis=0) - middle**2, 0.0))
        low, high, mean, std = (
            part.reshape(3, 1, 1) for part in (least.min(axis=0), greatest.max(axis=0), middle, spread)
        )
        return Stats(low, high, mean, std, len(self.seen))


def together(parts: Sequence[Stats]) -> Stats:
    """Of all that several were made from."""
    counts = np.array([part.count for part in parts], dtype=np.float64)
    weights = (counts / counts.sum()).reshape(-1, *[1] * parts[0].mean.ndim)
    means = np.stack([part.mean for part in parts])
    mean = (weights * means).sum(axis=0)
    variance = (weights * (np.stack([part.std for part in parts]) ** 2 + (means - mean) ** 2)).sum(axis=0)
    return Stats(
        np.min([part.min for part in parts], axis=0),
        np.max([part.max for part in parts], axis=0),
        mean,
        np.sqrt(variance),
        int(counts.sum()),
    )


def sampled(frames: int) -> set[int]:
    """Which of so many frames stand for all in the statistics of pictures: LeRobot's number, 100 at least where there
    are as many."""
    count = min(frames, max(100, min(round(frames**0.75), 10_000)))
    return set(np.linspace(0, frames - 1, count).round().astype(int).tolist())
