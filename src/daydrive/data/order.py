"""The order of the training's clips: a pure function from a sample's number to a clip's number.

A sample is one clip in an endless stream that is numbered from 0, so that the place in the training is one integer,
whatever the batches, the ranks and the workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from daydrive.config import BalanceConfig, DataConfig
from daydrive.data import balance, curriculum
from daydrive.data.clips import ClipIndex
from daydrive.data.sampler import Numbers, epoch_order, systematic
from daydrive.data.store import Store

Shares = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Phase:
    """`count` clips that are gone through `passes` times, without end where that is None.

    members: (count,) int64, their numbers; None: 0 … count-1. chances: (count,) float32, how often each is drawn,
    relative; None: each once a pass. weights: (count,) float32, what each counts, mean 1; None: all the same.
    """

    count: int
    passes: int | None = None
    members: Numbers | None = None
    chances: Shares | None = None
    weights: Shares | None = None


@dataclass(frozen=True, eq=False)
class Order:
    """One phase after the other, each pass over its clips in an order given by the seed and the pass's number.

    clip_count: clips of an epoch. All phases have weights, or none. The last phase has no end.
    """

    seed: int
    clip_count: int
    phases: tuple[Phase, ...]

    @classmethod
    def plain(cls, clip_count: int, seed: int) -> Order:
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
                places = _one_pass(phase, self.seed, passed + number)[start : start + count]
                yield phase, places
                first, count = first + len(places), count - len(places)
            passed += phase.passes or 0
            first -= (phase.passes or 0) * phase.count


def build_order(store: Store, index: ClipIndex, data: DataConfig, seed: int) -> Order:
    """The order that `data.balance` and `data.curriculum` ask for; every clip once an epoch without them.

    With a curriculum the clips are balanced among those of a phase. UserError for a curriculum that the store's
    columns or clips don't allow.
    """
    if data.balance is None and data.curriculum is None:
        return Order.plain(len(index), seed)
    kinds = None if data.balance is None else balance.kinds(store, index)
    phases = [_phase(np.arange(len(index)), None, kinds, data.balance)]
    if data.curriculum is not None:
        difficulty = curriculum.difficulty(store, index, data.curriculum.by)
        parts = curriculum.phase_members(difficulty, data.curriculum, seed)
        phases = [_phase(part, data.curriculum.epochs_per_phase, kinds, data.balance) for part in parts] + phases
    return Order(seed, len(index), tuple(phases))


def _phase(
    members: Numbers, passes: int | None, kinds: npt.NDArray[np.int8] | None, config: BalanceConfig | None
) -> Phase:
    phase = Phase(len(members), passes, members)
    if kinds is None or config is None:
        return phase
    rarity = balance.rarity(kinds[members], config.strength)
    return replace(phase, chances=rarity) if config.mode == "sample" else replace(phase, weights=rarity)


@lru_cache(maxsize=2)
def _one_pass(phase: Phase, seed: int, number: int) -> Numbers:
    """Places in a phase in the order of pass `number` of all, read-only; kept, as one sample costs as much as all."""
    places = epoch_order(seed, number, phase.count)
    if phase.chances is not None:
        offset = np.random.default_rng([seed, number, 1]).random()
        places = systematic(phase.chances, offset)[places]
    places.flags.writeable = False
    return places
