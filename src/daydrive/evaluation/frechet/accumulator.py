"""Whether predictions as a whole look like real drives: Fréchet distances beside their baselines, and how they depend
on the number of clips.

Of few samples a Fréchet distance is too large, by an amount that falls as 1/N (Chong and Forsyth, Effectively unbiased
FID and Inception Score, 2020). So each stands beside what real frames of other drives reach with the same number of
clips, is given for a quarter, a half and all of them, and carried on to infinitely many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from daydrive.evaluation.frechet.features import ABSENT, FILTERS, Features
from daydrive.evaluation.frechet.gaussian import Moments, frechet_distance
from daydrive.evaluation.metrics.intervals import Array
from daydrive.types import Rollout

GROUPS = (((0,), (1,), (2,), (3,)), ((0, 2), (1, 3)), ((0, 1, 2, 3),))
"""Clips fall into four folds by their number; these are taken together: quarters of the clips, halves, all."""
FOLDS = len(GROUPS[0])

PAIRS = {
    "dream": ("dream", "real"),
    "copy_last": ("copied", "real"),
    "other_drives": ("other", "real"),
    "dream_to_other_drives": ("dream", "other"),
}
"""What is compared, by its name in `evaluation.json`."""
KINDS = ("dream", "copied", "real", "other")

BANDS = (10, 25, 50)
"""Steps at which a band ends; the last one goes to the horizon."""


class FrechetAccumulator:
    """Moments of what is predicted, copied, real, and real in other drives, in constant memory.

    Every sum is exact (see `Moments`): neither the order of the clips nor how they are divided over processes, whose
    accumulators are added up in the end, changes a metric.
    """

    def __init__(self, steps: int, features: Sequence[Features] = FILTERS) -> None:
        self.features = tuple(features)
        ends = [end for end in BANDS if end < steps]
        self.bands = tuple(zip([0, *ends], [*ends, steps], strict=True))
        self._moments: dict[str, Moments] = {}

    def add(self, number: int, rollout: Rollout) -> None:
        """number: of the clip among all, from 0."""
        last = rollout.last
        self._add(number, "dream", last, rollout.predicted)
        self._add(number, "copied", last, last.expand_as(rollout.real))
        self._add(number, "real", last, rollout.real)

    def add_other(self, number: int, before: Tensor, frames: Tensor) -> None:
        """A clip of another drive; before: (3, H, W), frames: (N, 3, H, W), N the horizon, uint8."""
        self._add(number, "other", before, frames)

    def arrays(self) -> dict[str, Array]:
        """All that was seen, by names for a file; see `restore`."""
        return {key: moments.sums for key, moments in self._moments.items()}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Adds what `arrays` hold of an accumulator of the same features and steps."""
        for features in self.features:
            for key in self._keys(features, KINDS, range(FOLDS), range(len(self._bands(features)))):
                if key in arrays:
                    self._at(features, key).sums += arrays[key]

    def metrics(self) -> dict[str, Any]:
        """Each distance by its key; of one that is not measured the reason."""
        return ABSENT | {features.key: self._metrics(features) for features in self.features}

    def _add(self, number: int, kind: str, before: Tensor, frames: Tensor) -> None:
        for features in self.features:
            if kind == "copied" and features.per_frame:  # all frames are as the one before
                described = features.of(before, frames[:1]).expand(len(frames), -1).double().numpy()
            else:
                described = features.of(before, frames).double().numpy()
            for band, (begin, end) in enumerate(self._bands(features)):
                (key,) = self._keys(features, [kind], [number % FOLDS], [band])
                self._at(features, key).add(described[begin:end])

    def _at(self, features: Features, key: str) -> Moments:
        if key not in self._moments:
            self._moments[key] = Moments(features.dimensions, features.step)
        return self._moments[key]

    def _keys(self, features: Features, kinds: Iterable[str], folds: Iterable[int], bands: Iterable[int]) -> list[str]:
        return [f"{features.key} {kind} {fold} {band}" for kind in kinds for fold in folds for band in bands]

    def _bands(self, features: Features) -> Sequence[tuple[int, int]]:
        return self.bands if features.in_bands else [(0, self.bands[-1][1])]

    def _metrics(self, features: Features) -> dict[str, Any] | str:
        every = range(len(self._bands(features)))
        sizes = [self._distances(features, groups, every) for groups in GROUPS]
        whole = sizes[-1]
        if whole["dream"] is None:
            return ABSENT.get(features.key, "not measured: it needs at least 2 samples")
        result: dict[str, Any] = {"features": features.name, "dimensions": features.dimensions, **whole, "sizes": sizes}
        result["extrapolated"] = {name: _extrapolated(sizes, name) for name in PAIRS}
        if features.in_bands:
            result["bands"] = [
                {"first": begin + 1, "last": end, **self._distances(features, GROUPS[-1], [band])}
                for band, (begin, end) in enumerate(self.bands)
            ]
        return result

    def _distances(
        self, features: Features, groups: Sequence[Sequence[int]], bands: Iterable[int]
    ) -> dict[str, float | None]:
        """`samples` of a group and each distance, means over the groups; None where a group has too few samples."""
        samples, distances = [], []
        for group in groups:
            moments = {kind: self._together(features, kind, group, bands) for kind in KINDS}
            samples.append(moments["dream"].count)
            distances.append(_distances_of(moments))
        means = {name: _mean([of_group[name] for of_group in distances]) for name in PAIRS}
        return {"samples": float(np.mean(samples)), **means}

    def _together(self, features: Features, kind: str, folds: Sequence[int], bands: Iterable[int]) -> Moments:
        together = Moments(features.dimensions, features.step)
        for key in self._keys(features, [kind], folds, bands):
            if key in self._moments:
                together.sums += self._moments[key].sums
        return together


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
    """Where a line through the distances over 1/N meets 0, which may be a little below 0. None where a size is."""
    known = [(1 / size["samples"], size[name]) for size in sizes if size["samples"] and size[name] is not None]
    if len(known) < len(sizes):
        return None
    inverse, distances = np.array(known).T
    return round(float(np.polyfit(inverse, distances, 1)[1]), 4)
