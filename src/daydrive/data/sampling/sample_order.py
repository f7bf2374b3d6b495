"""The order of the training's clips: a pure function from a sample's number to a clip's number.

A sample is one clip in an endless stream that is numbered from 0, so that the place in the training is one integer,
whatever the batches, the ranks and the workers.
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
    """`count` clips that are gone through `passes` times, without end where that is None.

    members: (count,) int64, their numbers; None: 0 … count-1. chances: how often each is drawn; None: once a pass.
    weights: (count,) float32, what each counts, mean 1; None: all the same.
    """

    count: int
    passes: int | None = None
    members: Numbers | None = None
    sampling_weights: SamplingWeights | None = None
    weights: Shares | None = None


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """One phase after the other, each pass over its clips in an order given by the seed and the pass's number.

    clip_count: clips of an epoch. All phases have weights, or none. The last phase has no end.
    """

    seed: int
    clip_count: int
    phases: tuple[Phase, ...]

    @classmethod
    def plain(cls, clip_count: int, seed: int) -> SampleOrder:
        """Every clip once an epoch."""
        return cls(seed, clip_count, (Phase(clip_count),))

    def clips(self, first: int, count: int) -> Numbers:
        """Clip numbers, int64 (count,), of samples first … first+count-1."""
        found = [places if phase.members is None else phase.members[places] for phase, places in self._at(first, count)]
        return np.concatenate(found)

    def weights(self, first: int, count: int) -> Shares | None:
        """What the same samples count, float32 (count,) with mean 1 over a pass; None where all count the same."""
        found = [phase.weights[places] for phase, places in self._at(first, count) if phase.weights is not None]
        return np.concatenate(found) if found else None

    def _at(self, first: int, count: int) -> Iterator[tuple[Phase, Numbers]]:
        """The samples as runs of places within a phase."""
        passed = 0
        for phase in self.phases:
            while count and (phase.passes is None or first < phase.passes * phase.count):
                number, start = divmod(first, phase.count)
                wanted = np.arange(start, min(start + count, phase.count))
                places = _drawn(phase, self.seed, passed + number, wanted)
                yield phase, places
                first, count = first + len(places), count - len(places)
            passed += phase.passes or 0
            first -= (phase.passes or 0) * phase.count


def build_sample_order(store: Store, index: ClipIndex, data: DataConfig, seed: int) -> SampleOrder:
    """The order that `data.balance`, `data.curriculum` and the weights of a mix ask for; every clip once an epoch
    without them.

    With a curriculum the clips are balanced among those of a phase. UserError for a curriculum that the store's
    columns or clips don't allow.
    """
    mixed = _member_weights(store, index)
    if data.balance is None and data.curriculum is None:
        return SampleOrder(seed, len(index), (Phase(len(index), sampling_weights=mixed),))
    often = None if mixed is None else np.repeat(mixed.shares, mixed.counts)
    kinds = None if data.balance is None else clip_weights.kinds(store, index)
    phases = [_phase(np.arange(len(index)), None, kinds, often, data.balance)]
    if data.curriculum is not None:
        difficulty = curriculum.difficulty(store, index, data.curriculum.by)
        parts = curriculum.phase_members(difficulty, data.curriculum, seed)
        phases = [_phase(part, data.curriculum.epochs_per_phase, kinds, often, data.balance) for part in parts] + phases
    return SampleOrder(seed, len(index), tuple(phases))


def _member_weights(store: Store, index: ClipIndex) -> SamplingWeights | None:
    """None where all members of the store, or the only one, have the same weight."""
    if len(set(store.weights)) == 1:
        return None
    counts = index.counts(np.cumsum([0, *(member.rows for member in store.members)]))
    return SamplingWeights(counts, np.array(store.weights))


def _phase(
    members: Numbers,
    passes: int | None,
    kinds: npt.NDArray[np.int8] | None,
    often: npt.NDArray[np.float64] | None,
    config: BalanceConfig | None,
) -> Phase:
    phase = Phase(len(members), passes, members)
    sampling_weights = None if often is None else often[members]
    if kinds is not None and config is not None:
        rarity = clip_weights.rarity(kinds[members], config.strength)
        if config.mode == "weight":
            phase = replace(phase, weights=rarity)
        else:
            sampling_weights = rarity.astype(np.float64) if sampling_weights is None else sampling_weights * rarity
    return (
        phase if sampling_weights is None else replace(phase, sampling_weights=SamplingWeights.each(sampling_weights))
    )


def _drawn(phase: Phase, seed: int, number: int, wanted: Numbers) -> Numbers:
    """The places in a phase that draws `wanted` of pass `number` of all give."""
    places = epoch_permutation(seed, number, phase.count, wanted)
    if phase.sampling_weights is None:
        return places
    return phase.sampling_weights.drawn(places, np.random.default_rng([seed, number, 1]).random())
