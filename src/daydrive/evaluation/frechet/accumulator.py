"""Accumulates Fréchet distances, those of the baselines, and their dependence on the number of clips.

With few samples a Fréchet distance is biased upwards by an amount proportional to 1/N (Chong and Forsyth, Effectively
unbiased FID and Inception Score, 2020). Each distance is therefore given beside that of real frames of other drives
with the same number of clips, for a quarter, a half and all of the clips, and extrapolated to infinitely many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips
from daydrive.data.store.store import SPLITS, Store
from daydrive.errors import UserError
from daydrive.evaluation.frechet.features import ABSENT, FILTERS, Features
from daydrive.evaluation.metrics.frame_metrics import ClipReader
from daydrive.evaluation.metrics.intervals import Array
from daydrive.types import Clip, Rollout


def choose_reference_clips(
    store: Store, split: str, length: int, count: int, frame_skip: int
) -> tuple[str | None, list[Clip]]:
    """Another split, preferably 'train', and up to `count` of its clips; None, [] if no drive is long enough."""
    span = (length - 1) * frame_skip + 1
    for name in sorted(SPLITS, key=lambda name: name != "train"):
        if name != split and any(drive.frames >= span for drive in store.split(name)):
            return name, fixed_clips(store, name, length, count, frame_skip)
    return None, []


def add_reference_clips(
    accumulator: FrechetAccumulator, read: ClipReader, clips: Sequence[Clip], indices: Iterable[int], context: int
) -> None:
    """Adds the clips with these indices, one at a time."""
    for index in indices:
        (images,) = read([clips[index]]).images
        accumulator.add_reference(index, images[context - 1], images[context:])


class Gaussian(NamedTuple):
    """mean: (D,). factor: (D, R), with covariance = factor @ factor.T of rank R."""

    mean: Array
    factor: Array


def gaussian(mean: Array, covariance: Array) -> Gaussian:
    """Factorizes a Gaussian. mean: (D,). covariance: (D, D), symmetric, possibly singular. ValueError for NaN or
    infinity."""
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("a Gaussian needs finite values; its mean or covariance contains NaN or infinity")
    values, vectors = np.linalg.eigh(covariance)
    known = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    return Gaussian(mean, vectors[:, known] * np.sqrt(values[known]))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|² + tr(A + B - 2 (A^½ B A^½)^½), in squared units of the features, at least 0.

    The last trace is the sum of the singular values of F_a^T F_b for any factors with F F^T = A, B. This avoids the
    square root of a nearly singular product, and the distance of equal Gaussians is 0 up to rounding.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"two Gaussians of equal dimension are needed, not of {len(a.mean)} and {len(b.mean)}")
    shared = np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum() if a.factor.size and b.factor.size else 0.0
    spread = np.square(a.factor).sum() + np.square(b.factor).sum() - 2.0 * shared
    return max(0.0, float(np.square(a.mean - b.mean).sum() + spread))


class Moments:
    """The number, sum and sum of outer products of feature vectors, in constant memory: the sum of the outer products
    of all rows (1, features…), float64 (D + 1, D + 1).

    Features are rounded to multiples of `step`, a power of two. Sums of such numbers are exact as long as they fit into
    the 53 bits of a float64, so they are identical for any order and number of processes: for features below 2^15 steps
    in magnitude, up to eight million samples.
    """

    def __init__(self, dimensions: int, step: float) -> None:
        self.sums, self.step = np.zeros((dimensions + 1, dimensions + 1)), step

    @property
    def count(self) -> int:
        return int(self.sums[0, 0])

    def add(self, features: Array) -> None:
        """Adds features (N, D). UserError if a value is not finite."""
        if not np.isfinite(features).all():
            raise UserError("features contain NaN or infinity, so there is no Fréchet distance; check the weights")
        rounded = np.round(np.asarray(features, dtype=np.float64) / self.step) * self.step
        rows = np.concatenate((np.ones((len(rounded), 1)), rounded), axis=1)
        self.sums += rows.T @ rows

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance, singular if there are fewer samples than dimensions. ValueError for fewer than
        two samples."""
        count = self.count
        if count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, not {count}")
        mean = self.sums[0, 1:] / count
        return gaussian(mean, (self.sums[1:, 1:] - count * np.outer(mean, mean)) / (count - 1))


GROUPS = (((0,), (1,), (2,), (3,)), ((0, 2), (1, 3)), ((0, 1, 2, 3),))
"""Clips are divided into four folds by index; these groups of folds are quarters, halves and all of the clips."""
FOLDS = len(GROUPS[0])

PAIRS = {
    "dream": ("dream", "real"),
    "copy_last": ("copied", "real"),
    "other_drives": ("other", "real"),
    "dream_to_other_drives": ("dream", "other"),
}
"""The compared sets of frames, by name in `evaluation.json`."""
KINDS = ("dream", "copied", "real", "other")

BANDS = (10, 25, 50)
"""Last steps of the bands; the final band ends at the horizon."""


class FrechetAccumulator:
    """Feature moments of predicted, copied and real frames and of real frames of other drives, in constant memory.

    Every sum is exact (see `Moments`), so the distances depend neither on the order of the clips nor on their division
    over processes, whose accumulators are added up at the end.
    """

    def __init__(self, steps: int, features: Sequence[Features] = FILTERS) -> None:
        self.features = tuple(features)
        ends = [end for end in BANDS if end < steps]
        self.bands = tuple(zip([0, *ends], [*ends, steps], strict=True))
        self._moments: dict[str, Moments] = {}

    def add(self, index: int, rollout: Rollout) -> None:
        """Adds a rollout. index: of the clip among all clips."""
        last = rollout.last
        self._add(index, "dream", last, rollout.predicted)
        self._add(index, "copied", last, last.expand_as(rollout.real))
        self._add(index, "real", last, rollout.real)

    def add_reference(self, index: int, before: Tensor, frames: Tensor) -> None:
        """Adds a clip of another drive. before: the preceding frame, uint8 (3, H, W). frames: uint8 (N, 3, H, W)."""
        self._add(index, "other", before, frames)

    def arrays(self) -> dict[str, Array]:
        """The accumulated sums by name, for a file; see `restore`."""
        return {key: moments.sums for key, moments in self._moments.items()}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Adds the `arrays` of an accumulator with the same features and number of steps."""
        for features in self.features:
            for key in self._keys(features, KINDS, range(FOLDS), range(len(self._bands(features)))):
                if key in arrays:
                    self._moments_for(features, key).sums += arrays[key]

    def metrics(self) -> dict[str, Any]:
        """The distances by feature key, or the reason why they are not measured."""
        return ABSENT | {features.key: self._metrics(features) for features in self.features}

    def _add(self, index: int, kind: str, before: Tensor, frames: Tensor) -> None:
        for features in self.features:
            if kind == "copied" and features.per_frame:  # all frames equal the preceding one
                values = features.extract(before, frames[:1]).expand(len(frames), -1).double().numpy()
            else:
                values = features.extract(before, frames).double().numpy()
            for band, (start, end) in enumerate(self._bands(features)):
                (key,) = self._keys(features, [kind], [index % FOLDS], [band])
                self._moments_for(features, key).add(values[start:end])

    def _moments_for(self, features: Features, key: str) -> Moments:
        if key not in self._moments:
            self._moments[key] = Moments(features.dimensions, features.step)
        return self._moments[key]

    def _keys(self, features: Features, kinds: Iterable[str], folds: Iterable[int], bands: Iterable[int]) -> list[str]:
        return [f"{features.key} {kind} {fold} {band}" for kind in kinds for fold in folds for band in bands]

    def _bands(self, features: Features) -> Sequence[tuple[int, int]]:
        return self.bands if features.in_bands else [(0, self.bands[-1][1])]

    def _metrics(self, features: Features) -> dict[str, Any] | str:
        all_bands = range(len(self._bands(features)))
        sizes = [self._distances(features, groups, all_bands) for groups in GROUPS]
        full = sizes[-1]
        if full["dream"] is None:
            return ABSENT.get(features.key, "not measured: it needs at least 2 samples")
        result: dict[str, Any] = {"features": features.name, "dimensions": features.dimensions, **full, "sizes": sizes}
        result["extrapolated"] = {name: _extrapolated(sizes, name) for name in PAIRS}
        if features.in_bands:
            result["bands"] = [
                {"first": start + 1, "last": end, **self._distances(features, GROUPS[-1], [band])}
                for band, (start, end) in enumerate(self.bands)
            ]
        return result

    def _distances(
        self, features: Features, groups: Sequence[Sequence[int]], bands: Iterable[int]
    ) -> dict[str, float | None]:
        """`samples` per group and each distance, averaged over the groups; None if a group has too few samples."""
        samples, distances = [], []
        for group in groups:
            moments = {kind: self._merged(features, kind, group, bands) for kind in KINDS}
            samples.append(moments["dream"].count)
            distances.append(_distances_of(moments))
        means = {name: _mean([of_group[name] for of_group in distances]) for name in PAIRS}
        return {"samples": float(np.mean(samples)), **means}

    def _merged(self, features: Features, kind: str, folds: Sequence[int], bands: Iterable[int]) -> Moments:
        merged = Moments(features.dimensions, features.step)
        for key in self._keys(features, [kind], folds, bands):
            if key in self._moments:
                merged.sums += self._moments[key].sums
        return merged


def _distances_of(moments: Mapping[str, Moments]) -> dict[str, float | None]:
    fits = {kind: of_kind.gaussian() for kind, of_kind in moments.items() if of_kind.count > 1}
    return {
        name: frechet_distance(fits[one], fits[other]) if one in fits and other in fits else None
        for name, (one, other) in PAIRS.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 4) if len(known) == len(values) else None


def _extrapolated(sizes: Sequence[dict[str, float | None]], name: str) -> float | None:
    """The intercept at 1/N = 0 of a line through the distances over 1/N; it may be slightly negative. None if one of
    the distances is None."""
    known = [(1 / size["samples"], size[name]) for size in sizes if size["samples"] and size[name] is not None]
    if len(known) < len(sizes):
        return None
    inverse, distances = np.array(known).T
    return round(float(np.polyfit(inverse, distances, 1)[1]), 4)
