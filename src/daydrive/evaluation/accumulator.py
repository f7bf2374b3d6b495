"""Accumulates per-clip metrics and the statistics of features, in memory and on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from daydrive.evaluation.distribution import DistributionAccumulator
from daydrive.evaluation.metrics.intervals import Array
from daydrive.evaluation.metrics.slices import Kind
from daydrive.evaluation.metrics.spectrum import SpectrumAccumulator
from daydrive.files import atomic_replace

METRIC, DISTRIBUTION, SPECTRUM = "metric ", "distribution ", "spectrum "


class _Part(NamedTuple):
    """indices: (clips,), of the clips. metrics: float32 (clips, steps, ...), by name."""

    indices: npt.NDArray[np.int64]
    metrics: dict[str, npt.NDArray[np.float32]]
    kinds: list[Kind]


class MetricAccumulator:
    """Metrics and kinds of clips by clip index. Clips may be added in any order, each exactly once.

    distribution, spectrum: the features and the spectra of all clips.
    """

    def __init__(self, distribution: DistributionAccumulator) -> None:
        self.distribution = distribution
        self.spectrum = SpectrumAccumulator(distribution.bands)
        self._parts: list[_Part] = []

    def read(self, files: Iterable[Path]) -> MetricAccumulator:
        """Adds the contents of files written by `save`; returns itself."""
        for file in files:
            with np.load(file, allow_pickle=False) as data:
                metrics = _with_prefix(data, METRIC)
                kinds = [Kind(*json.loads(text)) for text in data["kinds"]]
                self._parts.append(_Part(data["numbers"], metrics, kinds))
                self.distribution.restore(_with_prefix(data, DISTRIBUTION))
                self.spectrum.restore(_with_prefix(data, SPECTRUM))
        return self

    def add(self, indices: Sequence[int], metrics: Sequence[Mapping[str, Tensor]], kinds: Sequence[Kind]) -> None:
        """metrics: for each clip, tensors (steps, ...) by name."""
        stacked = {name: np.stack([of_clip[name].numpy() for of_clip in metrics]) for name in metrics[0]}
        self._parts.append(_Part(np.array(indices, dtype=np.int64), stacked, list(kinds)))

    def save(self, file: Path) -> None:
        """Writes everything to `file`, atomically."""
        arrays: dict[str, Any] = {METRIC + name: values for name, values in self._metrics().items()}
        arrays |= {DISTRIBUTION + name: values for name, values in self.distribution.arrays().items()}
        arrays |= {SPECTRUM + name: values for name, values in self.spectrum.arrays().items()}
        arrays["numbers"] = self.indices
        arrays["kinds"] = np.array([json.dumps(kind) for part in self._parts for kind in part.kinds])
        with atomic_replace(file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())

    def __len__(self) -> int:
        return sum(len(part.indices) for part in self._parts)

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """(clips,), in the order in which they were added."""
        return np.concatenate([part.indices for part in self._parts]) if self._parts else np.empty(0, np.int64)

    @property
    def metrics(self) -> dict[str, Array]:
        """float64 (clips, steps, ...) by name, sorted by clip index; every clip must have been added."""
        order = self._order()
        return {name: values[order].astype(np.float64) for name, values in self._metrics().items()}

    @property
    def kinds(self) -> list[Kind]:
        """Sorted by clip index."""
        kinds = [kind for part in self._parts for kind in part.kinds]
        return [kinds[i] for i in self._order()]

    @property
    def margins(self) -> dict[int, float]:
        """The margin of each clip by its index, see `margin`."""
        return {
            int(index): margin({name: values[i] for name, values in part.metrics.items()})
            for part in self._parts
            for i, index in enumerate(part.indices)
        }

    def _metrics(self) -> dict[str, npt.NDArray[np.float32]]:
        names = self._parts[0].metrics if self._parts else ()
        return {name: np.concatenate([part.metrics[name] for part in self._parts]) for name in names}

    def _order(self) -> npt.NDArray[np.int64]:
        order = np.argsort(self.indices)
        assert np.array_equal(self.indices[order], np.arange(len(order))), "each clip exactly once"
        return order


def _with_prefix(data: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): data[name] for name in data if name.startswith(prefix)}


def margin(metrics: Mapping[str, npt.ArrayLike]) -> float:
    """PSNR gain in dB of a prediction over copying the last frame, averaged over the steps of one clip."""
    return float(np.mean(np.asarray(metrics["psnr"]) - np.asarray(metrics["copy_last_psnr"]), dtype=np.float64))
