"""The clips of self-rollout lanes are a pure function of the sample number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daydrive.config import SelfRolloutConfig
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.lanes import LaneOrder, is_long
from daydrive.data.sampling.sample_order import SampleOrder
from daydrive.data.store.store import Store

CONFIG = SelfRolloutConfig(lanes=8, steps=2, free_steps=1, max_age=12, short_age=4)
FIRST, STEP = 20, 4


@pytest.fixture
def order(road_store: Path) -> LaneOrder:
    index = ClipIndex(Store.open(road_store), "train", 8)
    return LaneOrder(SampleOrder.plain(len(index), 3), index, CONFIG, FIRST, STEP)


def frames_of_a_visit(lane: int) -> int:
    return 3 if is_long(lane) else 2


def test_lanes_start_at_their_phase_and_follow_the_interval(order: LaneOrder) -> None:
    assert [order.has_lanes(sample) for sample in (16, 20, 23, 24)] == [False, True, True, True]
    every_third = LaneOrder(order.base, order.index, CONFIG.model_copy(update={"interval": 3}), FIRST, STEP)
    assert [every_third.has_lanes(FIRST + STEP * step) for step in range(7)] == [True, False, False] * 2 + [True]
    assert every_third.clips(24, 4).tolist() == order.base.clips(24, 4).tolist()
    assert [every_third.visit(FIRST + 3 * STEP * step).lane for step in range(3)] == [0, 4, 0]


def test_a_rollout_continues_where_it_was_until_it_restarts(order: LaneOrder) -> None:
    newest: dict[int, tuple[int, int]] = {}
    restarts = 0
    for sample in range(FIRST, FIRST + 8 * 40):
        visit, clip = order.visit(sample), order.index.clip(int(order.clips(sample, 1)[0]))
        assert visit.lane == (sample - FIRST) % 8 and visit.visit == (sample - FIRST) // 8
        if visit.origin == sample:
            restarts += 1
            assert order.clips(sample, 1)[0] == order.base.clips(sample, 1)[0] and not visit.wrapped
        else:
            origin, start = newest[visit.lane]
            assert visit.origin == origin
            if not visit.wrapped:
                assert clip.start == start + frames_of_a_visit(visit.lane)
        newest[visit.lane] = (visit.origin, clip.start)
    assert restarts > 8 * 8


def test_ages_stay_below_their_limit_and_are_spread(order: LaneOrder) -> None:
    ages: dict[bool, set[int]] = {True: set(), False: set()}
    for sample in range(FIRST + 8 * 20, FIRST + 8 * 21):
        visit = order.visit(sample)
        born = (visit.origin - FIRST) // 8
        ages[visit.long].add((visit.visit - born) * frames_of_a_visit(visit.lane))
    assert max(ages[True]) < 12 and len(ages[True]) >= 3
    assert max(ages[False]) < 4 and len(ages[False]) == 2


def test_long_and_short_lanes_are_balanced_on_each_process() -> None:
    for world in (1, 2, 4):
        assert {sum(is_long(lane) for lane in range(rank, 32, world)) for rank in range(world)} == {16 // world}


def test_clips_wrap_to_the_beginning_of_their_drive(road_store: Path) -> None:
    index = ClipIndex(Store.open(road_store), "train", 8, frame_skip=2)
    per_drive = 24 - 14
    assert index.moved(3, 2) == (7, False)
    assert index.moved(3, 4) == (per_drive - 10 + 1, True)
    assert index.moved(per_drive + 9, 1) == (per_drive + 1, True)


def test_a_long_training_is_looked_up_at_once(order: LaneOrder) -> None:
    far = FIRST + STEP * 10_000_000
    assert np.isin(order.clips(far, STEP), np.arange(len(order.index))).all()
