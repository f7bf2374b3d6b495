"""The clips of self-rollout lanes: which lane, and which moment of which drive, each sample of the training has.

A lane is one of a fixed number of rollouts of the model under way. Every visit of a lane continues its rollout by a few
frames; after its life it restarts from real frames. Like the sample order, all of it is a pure function of the sample
number, so that loader workers and a resumed run agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from daydrive.config import SelfRolloutConfig
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.permutation import Numbers
from daydrive.data.sampling.sample_order import SampleOrder, Shares


class LaneVisit(NamedTuple):
    """One visit of a lane.

    lane: its number. visit: how many visits it had before. origin: the sample number of the visit at which its rollout
    started from real frames. long: whether frames without gradient come first. wrapped: whether the rollout has
    reached the end of its drive and continues at the drive's beginning, so that the real frames are no longer those
    that it predicts.
    """

    lane: int
    visit: int
    origin: int
    long: bool
    wrapped: bool


@dataclass(frozen=True, eq=False)
class LaneOrder:
    """A sample order that switches to the lanes at `first_sample`.

    clips_per_step: over all processes; the lanes of consecutive steps follow each other. From `first_sample` on, every
    `config.interval`-th step belongs to lanes, the others to the plain order `base`, which also gives the clips that
    rollouts start from.
    """

    base: SampleOrder
    index: ClipIndex
    config: SelfRolloutConfig
    first_sample: int
    clips_per_step: int

    @property
    def clip_count(self) -> int:
        return self.base.clip_count

    def has_lanes(self, sample: int) -> bool:
        """Whether the step of this sample belongs to lanes."""
        step = (sample - self.first_sample) // self.clips_per_step
        return step >= 0 and step % self.config.interval == 0

    def lane_step(self, sample: int) -> int:
        """The number of steps with lanes before the one of this sample."""
        return (sample - self.first_sample) // self.clips_per_step // self.config.interval

    def visit(self, sample: int) -> LaneVisit:
        """The visit of a sample for which `has_lanes`."""
        step, within = divmod(sample - self.first_sample, self.clips_per_step)
        visit, lane = divmod(step // self.config.interval * self.clips_per_step + within, self.config.lanes)
        life = self._visits_per_life(lane)
        first_restart = 1 + lane * life // self.config.lanes  # spread, so that lanes of all ages exist side by side
        born = 0 if visit < first_restart else visit - (visit - first_restart) % life
        origin = self._sample_of(lane, born)
        _, wrapped = self._clip(origin, (visit - born) * self._frames_per_visit(lane))
        return LaneVisit(lane, visit, origin, is_long(lane), wrapped)

    def clips(self, first: int, count: int) -> Numbers:
        """Clip numbers, int64 (count,), of the samples first … first+count-1, which belong to one step."""
        if not self.has_lanes(first):
            return self.base.clips(first, count)
        numbers = []
        for sample in range(first, first + count):
            visit = self.visit(sample)
            born = self._visit_number(visit.origin)
            numbers.append(self._clip(visit.origin, (visit.visit - born) * self._frames_per_visit(visit.lane))[0])
        return np.array(numbers, dtype=np.int64)

    def weights(self, first: int, count: int) -> Shares | None:
        """Loss weights of the same samples; lanes have equal weights."""
        return None if self.has_lanes(first) else self.base.weights(first, count)

    def _clip(self, origin: int, frames: int) -> tuple[int, bool]:
        return self.index.moved(int(self.base.clips(origin, 1)[0]), frames)

    def _frames_per_visit(self, lane: int) -> int:
        return self.config.steps + (self.config.free_steps if is_long(lane) else 0)

    def _visits_per_life(self, lane: int) -> int:
        age = self.config.max_age if is_long(lane) else self.config.short_age
        return math.ceil(age / self._frames_per_visit(lane))

    def _sample_of(self, lane: int, visit: int) -> int:
        step, within = divmod(visit * self.config.lanes + lane, self.clips_per_step)
        return self.first_sample + step * self.config.interval * self.clips_per_step + within

    def _visit_number(self, sample: int) -> int:
        step, within = divmod(sample - self.first_sample, self.clips_per_step)
        return (step // self.config.interval * self.clips_per_step + within) // self.config.lanes


def is_long(lane: int) -> bool:
    """Half of the lanes live up to `max_age`, the others up to `short_age`; evenly so on each of 2, 4, 8, … processes
    (Thue-Morse sequence)."""
    return lane.bit_count() % 2 == 1
