"""Built-in rewards and terminations."""

from __future__ import annotations

import pytest
import torch

from daydrive.envs.world_model import (
    DrivingReward,
    LaneDeparture,
    Transition,
    comfort,
    lane_keeping,
    target_speed,
)
from daydrive.errors import UserError

STEADY = [0.0, 0.4, 0.0, 1.0]


def transition(before: list[float] = STEADY, after: list[float] = STEADY, **readings: list[float]) -> Transition:
    count = len(next(iter(readings.values()), [0.0]))
    actions = torch.tensor([before, after]).expand(count, 2, 4)
    frames = torch.zeros(count, 2, 3, 8, 8, dtype=torch.uint8)
    return Transition(frames, actions, {name: torch.tensor(values) for name, values in readings.items()}, 10.0)


def test_lane_keeping_falls_from_the_middle_to_the_edge_of_the_lane() -> None:
    kept = lane_keeping(
        transition(lane_offset=[0.0, 0.5, -0.5, 1.75, 4.0, 0.0], heading_error=[0.0, 0.0, 0.0, 0.0, 0.0, 1.6])
    )
    assert kept[0] == 1 and kept[1] == kept[2] == pytest.approx(1 - (0.5 / 1.75) ** 2)
    assert kept[3:].tolist() == [0, 0, 0]
    assert lane_keeping(transition(lane_offset=[0.0], heading_error=[0.3])).item() == pytest.approx(0.9553, abs=1e-4)


def test_speed_is_best_at_its_target() -> None:
    rewards = target_speed(transition(speed=[0.0, 6.0, 12.0, 18.0, 30.0, -3.0]), target=12.0)
    assert rewards.tolist() == [0, 0.5, 1, 0.5, 0, 0]


def test_comfort_penalizes_jerky_steering_at_speed_and_jerky_pedals() -> None:
    assert comfort(transition(speed=[15.0])).item() == 1
    swerve = comfort(transition(after=[1.0, 0.4, 0, 1], speed=[15.0, 7.5, 0.0, 40.0]))
    assert swerve.tolist() == pytest.approx([0.5, 0.75, 1, 0.5])
    assert comfort(transition(before=[0, 1, 0, 1], after=[0, 0, 1, 1], speed=[0.0])).item() == 0


def test_driving_reward_sums_the_terms_that_the_readout_supports() -> None:
    full = transition(lane_offset=[0.0], heading_error=[0.0], speed=[12.0])
    assert DrivingReward()(full).item() == pytest.approx(2.2)
    assert DrivingReward(lane=0, speed=2, comfort=0, target=24)(full).item() == 1
    for names, value in ((["speed"], 1.2), (["lane_offset", "heading_error"], 1.0), (["lane_offset"], 0.0)):
        known = full._replace(readings={name: full.readings[name] for name in names})
        assert DrivingReward.of_readings(names)(known).item() == pytest.approx(value)
    with pytest.raises(UserError, match="needs 'lane_offset', and the environment's readout reads speed"):
        DrivingReward()(transition(speed=[3.0]))


def test_leaving_the_lane_on_either_side_ends_the_episode() -> None:
    assert LaneDeparture()(transition(lane_offset=[0.0, 3.4, 3.6, -3.6])).tolist() == [False, False, True, True]
    assert LaneDeparture(limit=1)(transition(lane_offset=[1.5])).item() is True
