"""What is measured, in memory and on disk: a few numbers a frame of each clip, and sums over all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from daydrive.evaluation.frechet import FrechetAccumulator
from daydrive.evaluation.metrics.intervals import Array
from daydrive.evaluation.metrics.slices import Kind
from daydrive.files import atomic_replace

METRIC, FRECHET = "metric ", "frechet "


class _Part(NamedTuple):
    """numbers: (clips,), which. metrics: float32 (clips, steps), by name."""

    numbers: npt.NDArray[np.int64]
    metrics: dict[str, npt.NDArray[np.float32]]
    kinds: list[Kind]


class MetricAccumulator:
    """Metrics and kinds of clips, each known by its number among all; in any order, each once. frechet: of all."""

    def __init__(self, frechet: FrechetAccumulator) -> None:
        self.frechet = frechet
        self._parts: list[_Part] = []

    def read(self, files: Iterable[Path]) -> MetricAccumulator:
        """With all that `save` wrote into some files."""
        for file in files:
            with np.load(file, allow_pickle=False) as data:
                metrics = {name.removeprefix(METRIC): data[name] for name in data.files if name.startswith(METRIC)}
                kinds = [Kind(*json.loads(text)) for text in data["kinds"]]
                self._parts.append(_Part(data["numbers"], metrics, kinds))
                self.frechet.restore(
                    {name.removeprefix(FRECHET): data[name] for name in data.files if name.startswith(FRECHET)}
                )
        return self

    def add(self, numbers: Sequence[int], metrics: Sequence[Mapping[str, Tensor]], kinds: Sequence[Kind]) -> None:
        """metrics: of each clip, (steps,) by name."""
        stacked = {name: np.stack([of_clip[name].numpy() for of_clip in metrics]) for name in metrics[0]}
        self._parts.append(_Part(np.array(numbers, dtype=np.int64), stacked, list(kinds)))

    def save(self, file: Path) -> None:
        """All of it, in one move."""
        arrays: dict[str, Any] = {METRIC + name: values for name, values in self._metrics().items()}
        arrays |= {FRECHET + name: values for name, values in self.frechet.arrays().items()}
        arrays["numbers"] = self.numbers
        arrays["kinds"] = np.array([json.dumps(kind) for part in self._parts for kind in part.kinds])
        with atomic_replace(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())

    def __len__(self) -> int:
        return sum(len(part.numbers) for part in self._parts)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        return np.concatenate([part.numbers for part in self._parts]) if self._parts else np.empty(0, np.int64)

    @property
    def metrics(self) -> dict[str, Array]:
        """float64 (clips, steps) by name, in the clips' order; all clips have to be there."""
        order = self._order()
        return {name: values[order].astype(np.float64) for name, values in self._metrics().items()}

    @property
    def kinds(self) -> list[Kind]:
        """In the clips' order."""
        kinds = [kind for part in self._parts for kind in part.kinds]
        return [kinds[i] for i in self._order()]

    @property
    def margins(self) -> dict[int, float]:
        """Of each clip, see `margin`."""
        return {
            int(number): margin({name: values[i] for name, values in part.metrics.items()})
            for part in self._parts
            for i, number in enumerate(part.numbers)
        }

    def _metrics(self) -> dict[str, npt.NDArray[np.float32]]:
        names = self._parts[0].metrics if self._parts else ()
        return {name: np.concatenate([part.metrics[name] for part in self._parts]) for name in names}

    def _order(self) -> npt.NDArray[np.int64]:
        order = np.argsort(self.numbers)
        assert np.array_equal(self.numbers[order], np.arange(len(order))), "each clip once"
        return order


def margin(metrics: Mapping[str, npt.ArrayLike]) -> float:
    """dB by which a prediction is above the copied last frame, mean over the steps of one clip."""
    return float(np.mean(np.asarray(metrics["psnr"]) - np.asarray(metrics["copy_last_psnr"]), dtype=np.float64))
