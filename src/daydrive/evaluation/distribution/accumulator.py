"""Accumulates features and computes Fréchet and kernel distances, beside those of baselines.

With few samples a Fréchet distance is biased upwards by an amount proportional to 1/N (Chong and Forsyth, Effectively
unbiased FID and Inception Score, 2020). Each distance is therefore given beside that of real frames of other drives
with the same number of clips, for a quarter, a half and all of the clips, and extrapolated to infinitely many. The
kernel distance of the same features has no such bias, see `kid`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from daydrive.data.sampling.clips import fixed_clips
from daydrive.data.store.store import SPLITS, Store
from daydrive.evaluation.distribution.features import ABSENT, FILTERS, Features
from daydrive.evaluation.distribution.frechet import Moments, frechet_distance
from daydrive.evaluation.distribution.kid import SUBSETS, Samples, kernel_distance, pair_sums, set_sums
from daydrive.evaluation.metrics.frame_metrics import ClipReader
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
    accumulator: DistributionAccumulator, read: ClipReader, clips: Sequence[Clip], indices: Iterable[int], context: int
) -> None:
    """Adds the clips with these indices, one at a time."""
    for index in indices:
        (images,) = read([clips[index]]).images
        accumulator.add_reference(index, images[context - 1], images[context:])


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


class DistributionAccumulator:
    """Features of predicted, copied and real frames and of real frames of other drives, in constant memory.

    Every sum of the moments is exact (see `Moments`), and which samples the kernel distances use depends on their
    numbers alone (see `Samples`), so the distances depend neither on the order of the clips nor on their division over
    processes, whose accumulators are added up at the end.
    """

    def __init__(self, steps: int, features: Sequence[Features] = FILTERS) -> None:
        self.features = tuple(features)
        ends = [end for end in BANDS if end < steps]
        self.bands = tuple(zip([0, *ends], [*ends, steps], strict=True))
        self._moments: dict[str, Moments] = {}
        self._samples = {f"{each.key} {kind}": Samples(each.dimensions) for each in self.features for kind in KINDS}

    def add(self, index: int, rollout: Rollout) -> None:
        """Adds a rollout. index: of the clip among all clips."""
        last = rollout.last
        self._add(index, "dream", last, rollout.predicted)
        self._add(index, "copied", last, last.expand_as(rollout.real))
        self._add(index, "real", last, rollout.real)

    def add_reference(self, index: int, before: Tensor, frames: Tensor) -> None:
        """Adds a clip of another drive. before: the preceding frame, uint8 (3, H, W). frames: uint8 (N, 3, H, W)."""
        self._add(index, "other", before, frames)

    def arrays(self) -> dict[str, Any]:
        """The accumulated sums and samples by name, for a file; see `restore`."""
        arrays: dict[str, Any] = {key: moments.sums for key, moments in self._moments.items()}
        for key, samples in self._samples.items():
            arrays |= {f"{key} keys": samples.keys, f"{key} values": samples.values}
        return arrays

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Adds the `arrays` of an accumulator with the same features and number of steps."""
        for features in self.features:
            for key in self._keys(features, KINDS, range(FOLDS), range(len(self._bands(features)))):
                if key in arrays:
                    self._moments_for(features, key).sums += arrays[key]
        for key, samples in self._samples.items():
            samples.add(arrays[f"{key} keys"], arrays[f"{key} values"])

    def metrics(self) -> dict[str, Any]:
        """The distances by feature key, or the reason why they are not measured."""
        return ABSENT | {features.key: self._metrics(features) for features in self.features}

    def _add(self, index: int, kind: str, before: Tensor, frames: Tensor) -> None:
        for features in self.features:
            if kind == "copied" and features.per_frame:  # all frames equal the preceding one
                values = features.extract(before, frames[:1]).expand(len(frames), -1).numpy()
            else:
                values = features.extract(before, frames).numpy()
            for band, (start, end) in enumerate(self._bands(features)):
                (key,) = self._keys(features, [kind], [index % FOLDS], [band])
                self._moments_for(features, key).add(values[start:end])
            keys = np.stack((np.full(len(values), index), np.arange(len(values))), axis=1)
            self._samples[f"{features.key} {kind}"].add(keys, values)

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
        return result | {"kid": self._kernel_distances(features)}

    def _kernel_distances(self, features: Features) -> dict[str, Any]:
        """The kernel distances of `PAIRS` with their errors, and those of the bands."""
        samples = {kind: self._samples[f"{features.key} {kind}"] for kind in KINDS}
        clips = 1 + max(int(each.keys[:, 0].max(initial=0)) for each in samples.values())
        ends = np.array([end for _, end in self._bands(features)])
        sums = {kind: set_sums(each, clips, ends) for kind, each in samples.items()}
        between = {name: pair_sums(samples[one], samples[other], clips, ends) for name, (one, other) in PAIRS.items()}

        def entry(bands: list[int]) -> dict[str, Any]:
            found = {
                name: kernel_distance(sums[one], sums[other], between[name], bands)
                for name, (one, other) in PAIRS.items()
            }
            return {
                "samples": int(sums["dream"].counts[:, bands].sum()),
                **{name: distance and round(distance.value, 4) for name, distance in found.items()},
                "errors": {
                    name: distance and distance.error and round(distance.error, 4) for name, distance in found.items()
                },
            }

        result = {"subsets": SUBSETS, **entry(list(range(len(ends))))}
        if features.in_bands:
            result["bands"] = [
                {"first": start + 1, "last": end, **entry([band])} for band, (start, end) in enumerate(self.bands)
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
