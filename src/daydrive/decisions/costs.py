"""What the candidates of a planner lead to, and what that costs.

A cost is a function of a `Prediction`; one's own is passed to the planner in the same way as `DrivingCost`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from daydrive.envs.world_model.rewards import HALF_LANE
from daydrive.errors import UserError


class Prediction(NamedTuple):
    """What N candidates lead to, at R steps of the horizon.

    frames: uint8 (N, R, 3, H, W), None where nothing is rendered. readings: of these frames by name, (N, R) each.
    actions: float32 (N, 1 + horizon, 4), the first one is that before the plan. target_speed: m/s. hz: steps a second.
    """

    frames: Tensor | None
    readings: dict[str, Tensor]
    actions: Tensor
    target_speed: float
    hz: float

    def reading(self, name: str) -> Tensor:
        """(N, R); raises UserError if it is not read."""
        if name not in self.readings:
            available = ", ".join(self.readings) or "nothing"
            raise UserError(f"the cost needs '{name}', and the readout reads {available}")
        return self.readings[name]


CostFunction = Callable[[Prediction], Tensor]
"""A prediction of N candidates → their costs, (N,); lower is better."""


@dataclass(frozen=True)
class DrivingCost:
    """The weighted sum of the squared costs of leaving the lane's middle, the speed and the road, and of changing the
    controls.

    lane: of the distance from the lane's middle where the car would be in `preview` seconds at its present heading, in
    half lanes; speed: of the difference from the target, as a share of it; road: of the distance beyond the lane, in
    half lanes; smooth: of the change of steering and pedals from step to step.
    """

    lane: float = 1.0
    speed: float = 1.0
    road: float = 2.0
    smooth: float = 0.2
    preview: float = 1.0

    def __call__(self, prediction: Prediction) -> Tensor:
        offset, heading = prediction.reading("lane_offset"), prediction.reading("heading_error")
        ahead = offset + self.preview * prediction.target_speed * heading.sin()
        target = prediction.target_speed
        cost = self.lane * (ahead / HALF_LANE).square().mean(1)
        cost = cost + self.speed * (prediction.reading("speed") / target - 1).square().mean(1)
        cost = cost + self.road * (offset.abs() / HALF_LANE - 1).clamp(min=0).square().mean(1)
        change = prediction.actions.diff(dim=1)
        pedals = change[..., 1] - change[..., 2]
        return cost + self.smooth * (change[..., 0].square() + 0.1 * pedals.square()).sum(1)


def checked_costs(costs: object, count: int) -> Tensor:
    """Costs as a cost function has to return them, with those that are not numbers the highest of all."""
    if not isinstance(costs, Tensor) or costs.shape != (count,):
        given = f"{tuple(costs.shape)}" if isinstance(costs, Tensor) else type(costs).__name__
        raise UserError(f"the cost function returned {given} instead of a tensor of shape ({count},)")
    return torch.nan_to_num(costs.float(), nan=torch.inf, posinf=torch.inf).clamp(max=1e9)
