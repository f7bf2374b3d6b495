"""Rewards and terminations: functions of what a step of the environment shows, for batches of any size.

All of them are functions of `Transition`; one's own are passed to the environment in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from daydrive.envs.road.road import LANE_WIDTH
from daydrive.errors import UserError

HALF_LANE = LANE_WIDTH / 2
"""Half the width of a lane of the road world, m."""


class Transition(NamedTuple):
    """A step of B rollouts, on the model's device.

    frames: uint8 (B, 2, 3, H, W), before and after the step. actions: float32 (B, 2, 4), that of the step before and
    that of this one: steering, throttle, brake, gear. readings: values of the last frame by name, (B,) each, read from
    the frames by the environment's readout; empty without one. hz: steps per second.
    """

    frames: Tensor
    actions: Tensor
    readings: dict[str, Tensor]
    hz: float

    def reading(self, name: str) -> Tensor:
        """(B,); raises UserError if the readout does not have it."""
        if name not in self.readings:
            available = ", ".join(self.readings) or "nothing"
            raise UserError(
                f"the reward or termination needs '{name}', and the environment's readout reads {available}"
            )
        return self.readings[name]


Reward = Callable[[Transition], Tensor]
"""A transition of B rollouts → their rewards, (B,)."""

Termination = Callable[[Transition], Tensor]
"""A transition of B rollouts → whether their episodes end in a terminal state, bool (B,)."""


def lane_keeping(transition: Transition) -> Tensor:
    """(B,) in [0, 1]: 1 along the middle of the lane, 0 at its edge, beyond it, or at a right angle to it."""
    offset, heading = transition.reading("lane_offset"), transition.reading("heading_error")
    return (1 - (offset / HALF_LANE).square()).clamp(min=0) * heading.cos().clamp(min=0)


def target_speed(transition: Transition, target: float) -> Tensor:
    """(B,) in [0, 1]: 1 at the target speed (m/s), 0 at standstill and at twice the target."""
    return (1 - (transition.reading("speed") - target).abs() / target).clamp(min=0)


def comfort(transition: Transition) -> Tensor:
    """(B,) in [0, 1]: 1 for steady controls, 0 where steering or pedals change by their whole range in a step.

    Steering counts in proportion to the speed, up to 15 m/s; throttle and brake are one pedal in [-1, 1].
    """
    change = transition.actions[:, 1] - transition.actions[:, 0]
    steering = change[:, 0].abs() / 2 * (transition.reading("speed").abs() / 15).clamp(max=1)
    pedals = (change[:, 1] - change[:, 2]).abs() / 2
    return 1 - torch.maximum(steering, pedals)


@dataclass(frozen=True)
class DrivingReward:
    """The weighted sum of `lane_keeping`, `target_speed` and `comfort`; terms of weight 0 need no readings.

    target: speed in m/s.
    """

    lane: float = 1.0
    speed: float = 1.0
    comfort: float = 0.2
    target: float = 12.0

    def __call__(self, transition: Transition) -> Tensor:
        total = torch.zeros(len(transition.actions), device=transition.actions.device)
        if self.lane:
            total = total + self.lane * lane_keeping(transition)
        if self.speed:
            total = total + self.speed * target_speed(transition, self.target)
        if self.comfort:
            total = total + self.comfort * comfort(transition)
        return total

    @classmethod
    def of_readings(cls, names: Collection[str]) -> DrivingReward:
        """With the terms whose readings are among `names`."""
        lane, speed = {"lane_offset", "heading_error"} <= set(names), "speed" in names
        return cls(cls.lane * lane, cls.speed * speed, cls.comfort * speed)


@dataclass(frozen=True)
class LaneDeparture:
    """Ends an episode where the car is more than `limit` metres from the middle of its lane."""

    limit: float = 3.5

    def __call__(self, transition: Transition) -> Tensor:
        return transition.reading("lane_offset").abs() > self.limit


def zero_reward(transition: Transition) -> Tensor:
    """0 in every step."""
    return torch.zeros(len(transition.actions), device=transition.actions.device)


def never(transition: Transition) -> Tensor:
    """No episode ends."""
    return torch.zeros(len(transition.actions), dtype=torch.bool, device=transition.actions.device)
