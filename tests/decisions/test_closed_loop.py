"""Drivers in the true simulator: what they see, what is measured, and the order of scripted drivers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from daydrive.data.sources.road import drive_seed
from daydrive.decisions import (
    Displacement,
    LaneKeeper,
    Observation,
    RandomDriver,
    RoadResult,
    Skill,
    StraightDriver,
    Task,
    drive_closed_loop,
    summarize,
    unseen_roads,
)
from daydrive.envs.road import RoadEnv
from daydrive.errors import UserError

ROADS = unseen_roads(3)


class Observer(StraightDriver):
    """Steers a little, and stores what it sees."""

    def __init__(self, frames: int) -> None:
        self.frames, self.seen = frames, list[Observation]()

    def reset(self, task: Task) -> None:
        super().reset(task)
        self.task = task

    def act(self, observation: Observation) -> np.ndarray:
        self.seen.append(observation)
        action = super().act(observation)
        action[0] = 0.01 * len(self.seen)
        return action


def test_a_driver_sees_its_newest_frames_and_the_actions_between_them() -> None:
    driver = Observer(3)
    (result,) = drive_closed_loop(driver, ROADS[:1], seconds=0.5, target_speed=6, record=True)
    assert len(driver.seen) == 5 and driver.task.target_speed == 6 and driver.task.hz == 10
    env = RoadEnv()
    for before, after in zip(driver.seen, driver.seen[1:], strict=False):
        assert before.images.shape == (3, 3, 64, 64) and before.actions.shape == (2, 4)
        env.set_state(before.state)
        image = env.step(after.actions[-1].numpy())[0]
        assert after.images[-1].equal(torch.from_numpy(image).permute(2, 0, 1))
        assert after.images[:2].equal(before.images[1:]) and after.actions[0].equal(before.actions[1])
        assert after.info["speed"] == env.speed
    assert result.frames is not None and result.frames.shape == (5, 3, 64, 64)
    assert result.frames[:4].equal(torch.stack([seen.images[-1] for seen in driver.seen[1:]]))


def test_an_action_is_held_for_the_frames_that_are_skipped() -> None:
    driver = Observer(2)
    (result,) = drive_closed_loop(driver, ROADS[:1], seconds=1.0, frame_skip=2)
    assert len(driver.seen) == 5 and driver.task.hz == 5 and len(result.speed) == 5
    env = RoadEnv()
    env.set_state(driver.seen[1].state)
    for _ in range(2):
        env.advance(driver.seen[2].actions[-1].numpy())
    assert env.info["s"] == driver.seen[2].info["s"]


@pytest.mark.parametrize("frames", [0, 4])
def test_the_last_frame_before_the_first_decision_has_the_displacement(frames: int) -> None:
    driver = Observer(frames)
    drive_closed_loop(driver, ROADS, seconds=0.1, displacement=Displacement(-1.5, 10))
    for seen in driver.seen:
        assert seen.info["lane_offset"] == pytest.approx(-1.5, abs=0.05)
        assert np.degrees(seen.info["heading_error"]) == pytest.approx(10, abs=1)
        assert seen.info["speed"] == pytest.approx(8, abs=0.3)


def test_the_same_seed_gives_the_same_drive_and_another_seed_another_one() -> None:
    one, same, other = (drive_closed_loop(RandomDriver(), ROADS[:1], 3, seed=seed)[0] for seed in (0, 0, 1))
    assert one.x.tolist() == same.x.tolist() != other.x.tolist()


def test_measures_are_those_of_the_track() -> None:
    (result,) = drive_closed_loop(LaneKeeper(Skill(bias=2.0)), ROADS[:1], seconds=8)
    offset = np.abs(result.lane_offset)
    assert 0 < result.lane_share < 1 and result.lane_share == np.mean(offset < 1.75)
    assert result.lane_error == pytest.approx(offset.mean())
    assert result.speed_error == pytest.approx(np.abs(result.speed - 8).mean())
    assert result.progress == pytest.approx(1, abs=0.05) and result.off_road_share == 0


def test_a_drive_that_ends_early_counts_as_off_the_road() -> None:
    (result,) = drive_closed_loop(StraightDriver(), ROADS[:1], 20, 20, displacement=Displacement(3, 45))
    assert len(result.speed) < 100 and result.off_road_share > 0.9 and result.lane_share < 0.05


def test_skill_orders_the_drivers() -> None:
    drivers = [LaneKeeper(), LaneKeeper(Skill(noise=0.4)), LaneKeeper(Skill(lag=6)), StraightDriver()]
    errors = [summarize(drive_closed_loop(driver, ROADS, 10))["lane_error"] for driver in drivers]
    assert errors == sorted(errors) and errors[0] < 0.2 and errors[-1] > 1
    recovered = drive_closed_loop(LaneKeeper(), ROADS, 6, displacement=Displacement(1.5, 10))
    assert all(abs(result.lane_offset[-1]) < 0.3 for result in recovered)


def test_gain_scales_and_lag_delays_the_actions() -> None:
    readings = {"lane_offset": 0.5, "heading_error": 0.02, "speed": 8.0}
    observation = Observation(torch.empty(0), torch.empty(0), readings, {})
    task = Task(8.0, 10.0, 0)
    whole, half, late = LaneKeeper(), LaneKeeper(Skill(gain=0.5)), LaneKeeper(Skill(lag=2))
    for driver in (whole, half, late):
        driver.reset(task)
    steering = whole.act(observation)[0]
    assert steering < 0 and half.act(observation)[0] == pytest.approx(steering / 2, rel=0.01)
    first = late.act(observation)
    later = [late.act(observation._replace(info={**readings, "lane_offset": 0.5 + k})) for k in range(1, 5)]
    assert later[0].tolist() == later[1].tolist() == first.tolist() and later[2][0] < first[0]


def test_summary_has_means_and_intervals_over_roads() -> None:
    def result(road: int, share: float) -> RoadResult:
        numbers = dict.fromkeys(RoadResult._fields, 0.0)
        return RoadResult(**{**numbers, "road": road, "lane_share": share, "ms_per_decision": 5.0, "collisions": 1})

    two_seeds = [result(road, share) for road, share in ((1, 0.5), (1, 0.7), (2, 0.9), (2, 1.0))]
    summary = summarize(two_seeds)
    assert summary["lane_share"] == pytest.approx(0.775) and summary["collisions"] == 4
    assert summary["lane_share_interval"] == pytest.approx([0.6, 0.95])
    assert summarize(two_seeds[:2])["lane_share_interval"] is None


def test_no_recorded_drive_is_on_an_unseen_road() -> None:
    assert not {drive_seed(seed, k) for seed in range(3) for k in range(100)} & set(unseen_roads(1000))
    assert not set(unseen_roads(1000)) & set(unseen_roads(1000, "val"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_speed": 0.0}, "target speed has to be from 1 to 25 m/s, not 0"),
        ({"target_speed": float("nan")}, "target speed"),
        ({"seconds": 0.0}, "no step"),
        ({"displacement": Displacement(20, 0)}, "within 6 m and 45"),
        ({"image_size": (64, 70)}, "70"),
    ],
)
def test_what_the_simulator_does_not_have_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        drive_closed_loop(StraightDriver(), ROADS, **options)
