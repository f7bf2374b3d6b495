"""The order of clips in training: a pure function from sample number to clip number.

A sample is one clip in an endless stream numbered from 0. The position in training is therefore a single integer,
independent of batch size, ranks and workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from daydrive.config import BalanceConfig, DataConfig
from daydrive.data.sampling import clip_weights, curriculum
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.permutation import Numbers, SamplingWeights, epoch_permutation
from daydrive.data.store.store import Store

Shares = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Phase:
    """A phase of `passes` passes over `count` clips, endless if `passes` is None.

    members: (count,) int64, clip numbers; None: 0 … count-1. sampling_weights: how often each clip is sampled; None:
    once per pass. weights: (count,) float32, loss weights, mean 1; None: equal weights.
    """

    count: int
    passes: int | None = None
    members: Numbers | None = None
    sampling_weights: SamplingWeights | None = None
    weights: Shares | None = None


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """A sequence of phases; the order within each pass is given by the seed and the number of the pass.

    clip_count: clips per epoch. Either all phases have weights or none. The last phase is endless.
    """

    seed: int
    clip_count: int
    phases: tuple[Phase, ...]

    @classmethod
    def plain(cls, clip_count: int, seed: int) -> SampleOrder:
        """Every clip once per epoch, in random order."""
        return cls(seed, clip_count, (Phase(clip_count),))

    def clips(self, first: int, count: int) -> Numbers:
        """Clip numbers, int64 (count,), of the samples first … first+count-1."""
        found = [
            indices if phase.members is None else phase.members[indices] for phase, indices in self._at(first, count)
        ]
        return np.concatenate(found)

    def weights(self, first: int, count: int) -> Shares | None:
        """Loss weights of the same samples, float32 (count,), mean 1 over a pass; None for equal weights."""
        found = [phase.weights[indices] for phase, indices in self._at(first, count) if phase.weights is not None]
        return np.concatenate(found) if found else None

    def _at(self, first: int, count: int) -> Iterator[tuple[Phase, Numbers]]:
        """Yield the phases of the samples, with the indices of the samples within each phase."""
        passes_before = 0
        for phase in self.phases:
            while count and (phase.passes is None or first < phase.passes * phase.count):
                number, start = divmod(first, phase.count)
                draws = np.arange(start, min(start + count, phase.count))
                indices = _sample_phase(phase, self.seed, passes_before + number, draws)
                yield phase, indices
                first, count = first + len(indices), count - len(indices)
            passes_before += phase.passes or 0
            first -= (phase.passes or 0) * phase.count


def build_sample_order(store: Store, index: ClipIndex, data: DataConfig, seed: int) -> SampleOrder:
    """Build the order configured by `data.balance`, `data.curriculum` and the weights of a merged store; without them,
    every clip once per epoch.

    With a curriculum, clips are balanced within each phase. Raises UserError for a curriculum that does not fit the
    store.
    """
    member_weights = _member_weights(store, index)
    if data.balance is None and data.curriculum is None:
        return SampleOrder(seed, len(index), (Phase(len(index), sampling_weights=member_weights),))
    frequencies = None if member_weights is None else np.repeat(member_weights.shares, member_weights.counts)
    kinds = None if data.balance is None else clip_weights.kinds(store, index)
    phases = [_phase(np.arange(len(index)), None, kinds, frequencies, data.balance)]
    if data.curriculum is not None:
        difficulty = curriculum.difficulty(store, index, data.curriculum.by)
        phase_clips = curriculum.phase_members(difficulty, data.curriculum, seed)
        phases = [
            _phase(clips, data.curriculum.epochs_per_phase, kinds, frequencies, data.balance) for clips in phase_clips
        ] + phases
    return SampleOrder(seed, len(index), tuple(phases))


def _member_weights(store: Store, index: ClipIndex) -> SamplingWeights | None:
    """Sampling weights of the members of a merged store; None if they are equal."""
    if len(set(store.weights)) == 1:
        return None
    counts = index.counts(np.cumsum([0, *(member.rows for member in store.members)]))
    return SamplingWeights(counts, np.array(store.weights))


def _phase(
    members: Numbers,
    passes: int | None,
    kinds: npt.NDArray[np.int8] | None,
    frequencies: npt.NDArray[np.float64] | None,
    config: BalanceConfig | None,
) -> Phase:
    phase = Phase(len(members), passes, members)
    sampling_weights = None if frequencies is None else frequencies[members]
    if kinds is not None and config is not None:
        rarity = clip_weights.rarity_weights(kinds[members], config.strength)
        if config.mode == "weight":
            phase = replace(phase, weights=rarity)
        else:
            sampling_weights = rarity.astype(np.float64) if sampling_weights is None else sampling_weights * rarity
    return (
        phase if sampling_weights is None else replace(phase, sampling_weights=SamplingWeights.each(sampling_weights))
    )


def _sample_phase(phase: Phase, seed: int, number: int, draws: Numbers) -> Numbers:
    """Indices into a phase of the draws `draws` of pass `number`."""
    indices = epoch_permutation(seed, number, phase.count, draws)
    if phase.sampling_weights is None:
        return indices
    return phase.sampling_weights.sample(indices, np.random.default_rng([seed, number, 1]).random())
