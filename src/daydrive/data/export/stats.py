"""Statistics of dataset features, as in LeRobot: minimum, maximum, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stats:
    """min, max, mean, std: arrays of the shape of the feature, (3, 1, 1) for images. count: number of rows."""

    min: Array
    max: Array
    mean: Array
    std: Array
    count: int

    def as_json(self) -> dict[str, Any]:
        """The statistics as lists, for JSON and Parquet."""
        arrays = {name: np.nan_to_num(getattr(self, name)).tolist() for name in ("min", "max", "mean", "std")}
        return {**arrays, "count": [self.count]}


def column_stats(values: npt.ArrayLike) -> Stats:
    """Statistics over the rows of (N, D), ignoring NaN; 0 for columns without values."""
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
    """Accumulates statistics of images, uint8 (H, W, 3), per colour channel, in [0, 1]."""

    def __init__(self) -> None:
        self.per_image: list[tuple[Array, Array, Array, Array]] = []

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        pixels = image.reshape(-1, 3) / 255.0
        self.per_image.append((pixels.min(axis=0), pixels.max(axis=0), pixels.mean(axis=0), (pixels**2).mean(axis=0)))

    def stats(self) -> Stats:
        minima, maxima, means, squares = (np.stack(column) for column in zip(*self.per_image, strict=True))
        mean = means.mean(axis=0)
        std = np.sqrt(np.maximum(squares.mean(axis=0) - mean**2, 0.0))
        low, high, mean, std = (
            values.reshape(3, 1, 1) for values in (minima.min(axis=0), maxima.max(axis=0), mean, std)
        )
        return Stats(low, high, mean, std, len(self.per_image))


def aggregate(stats: Sequence[Stats]) -> Stats:
    """Combine the statistics of several sets of rows."""
    counts = np.array([each.count for each in stats], dtype=np.float64)
    weights = (counts / counts.sum()).reshape(-1, *[1] * stats[0].mean.ndim)
    means = np.stack([each.mean for each in stats])
    mean = (weights * means).sum(axis=0)
    variance = (weights * (np.stack([each.std for each in stats]) ** 2 + (means - mean) ** 2)).sum(axis=0)
    return Stats(
        np.min([each.min for each in stats], axis=0),
        np.max([each.max for each in stats], axis=0),
        mean,
        np.sqrt(variance),
        int(counts.sum()),
    )


def sampled_frames(frames: int) -> set[int]:
    """Indices of the frames used for image statistics, evenly spaced; their number is LeRobot's, at least 100 if
    available."""
    count = min(frames, max(100, min(round(frames**0.75), 10_000)))
    return set(np.linspace(0, frames - 1, count).round().astype(int).tolist())
