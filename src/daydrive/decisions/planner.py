"""Model-predictive control: a driver that decides by the cost of what its candidates lead to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daydrive.decisions.closed_loop import Action, Observation, Task, cruise
from daydrive.decisions.costs import CostFunction, DrivingCost, Prediction, checked_costs
from daydrive.decisions.predictors import Dynamics, ModelDynamics, Roll
from daydrive.decisions.solvers import SOLVERS, SolverSettings, limit_change, shifted
from daydrive.errors import UserError, did_you_mean

LOW, HIGH = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
"""Of a control: steering, and one pedal, the throttle if positive and the brake if negative."""


@dataclass(frozen=True)
class PlannerSettings:
    """solver: a name of `SOLVERS`. horizon: steps of the model ahead. read_every: steps between those whose frames are
    read; the last one always is. steering_rate: largest change of the steering, 1/s. plan_pedals: whether throttle and
    brake are planned too; if not, they hold the target speed by the car's speedometer. steering_std, pedal_std:
    standard deviations of the candidates.
    """

    solver: str = "cem"
    horizon: int = 4
    read_every: int = 2
    steering_rate: float = 2.0
    plan_pedals: bool = False
    steering_std: float = 0.12
    pedal_std: float = 0.25
    sampling: SolverSettings = field(default_factory=SolverSettings)

    def check(self) -> None:
        """Raises UserError for settings that no planner has."""
        if self.solver not in SOLVERS:
            raise UserError(f"there is no solver '{self.solver}'{did_you_mean(self.solver, SOLVERS)}")
        if self.sampling.samples < 2 or self.sampling.iterations < 1 or self.horizon < 1:
            raise UserError(
                f"a planner needs at least 2 samples, 1 iteration and 1 step, not {self.sampling.samples}, "
                f"{self.sampling.iterations} and {self.horizon}"
            )

    @property
    def steps(self) -> list[int]:
        """The steps whose frames are read, ascending, from 1."""
        return sorted(range(self.horizon, 0, -self.read_every))


class Planner:
    """Plans anew in every frame, from the rest of its last plan, and takes the first action of the plan.

    It sees the images and knows the car's speed; `RoadEnv`'s state only where it plans in the simulator itself.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        settings: PlannerSettings = PlannerSettings(),
        cost: CostFunction = DrivingCost(),  # noqa: B008
    ) -> None:
        """Raises UserError for settings that no planner has."""
        settings.check()
        self.frames = dynamics.frames
        self._dynamics, self._settings, self._cost = dynamics, settings, cost
        pedal_std = settings.pedal_std if settings.plan_pedals else 0.0
        self._std = torch.tensor([settings.steering_std, pedal_std], device=dynamics.device)

    def reset(self, task: Task) -> None:
        self._task, self._generator = task, torch.Generator().manual_seed(task.seed)
        self._plan = torch.zeros(1, self._settings.horizon, 2, device=self._dynamics.device)
        self._last = self._plan[0, 0]

    def act(self, observation: Observation) -> Action:
        settings, task, last = self._settings, self._task, self._last
        roll = self._dynamics.start(observation)
        if not settings.plan_pedals:
            _, throttle, brake, _ = cruise(task.target_speed, observation.info["speed"]).tolist()
            self._plan[..., 1] = throttle - brake
        limits = torch.tensor([settings.steering_rate / task.hz, torch.inf], device=last.device)

        def project(plans: Tensor) -> Tensor:
            return limit_change(torch.clamp(plans, LOW.to(plans), HIGH.to(plans)), last, limits)

        def cost(candidates: Tensor) -> Tensor:
            return costs_of(roll, to_actions(candidates[0]), to_actions(last), settings, self._cost, task)[None]

        solve = SOLVERS[settings.solver]
        plan = project(solve(cost, self._plan, self._std, settings.sampling, project, self._generator))
        self._plan, self._last = shifted(plan), plan[0, 0]
        return to_actions(self._last).cpu().numpy().astype(np.float32)


def to_actions(controls: Tensor) -> Tensor:
    """Controls (..., 2) → actions (..., 4)."""
    steering, pedal = controls.unbind(-1)
    return torch.stack([steering, pedal.clamp(min=0), (-pedal).clamp(min=0), torch.ones_like(pedal)], dim=-1)


def costs_of(
    roll: Roll, actions: Tensor, last: Tensor, settings: PlannerSettings, cost: CostFunction, task: Task
) -> Tensor:
    """Costs (N,) of actions (N, horizon, 4) after the action `last`, (4,) or (N, 4)."""
    outcome = roll(actions, settings.steps)
    whole = torch.cat([last.expand(len(actions), 4)[:, None], actions], dim=1)
    return checked_costs(cost(Prediction(*outcome, whole, task.target_speed, task.hz)), len(actions))


class ModelCost(nn.Module):
    """The cost of actions in a world model, for the solvers of stable-worldmodel and others of its convention.

    `info` has `images`, uint8 (B, S, F, 3, H, W), and `actions`, float32 (B, S, F-1, 4), the same for all S candidates
    of an observation; F = `dynamics.frames`. Candidates are actions (B, S, horizon, 4), clipped to the action space.
    """

    def __init__(
        self,
        dynamics: ModelDynamics,
        task: Task,
        settings: PlannerSettings,
        cost: CostFunction = DrivingCost(),  # noqa: B008
    ) -> None:
        super().__init__()
        if isinstance(dynamics.model, nn.Module):
            self.model = dynamics.model
        self._dynamics, self._task, self._settings, self._cost = dynamics, task, settings, cost

    @torch.no_grad()
    def get_cost(self, info: dict[str, Any], candidates: Tensor) -> Tensor:
        """(B, S); raises UserError for candidates of another shape."""
        if candidates.ndim != 4 or candidates.shape[2:] != (self._settings.horizon, 4):
            raise UserError(
                f"candidates are {tuple(candidates.shape)}, and this cost expects (B, S, {self._settings.horizon}, 4)"
            )
        shape, device = candidates.shape[:2], self._dynamics.device
        roll = self._dynamics.start_batch(info["images"][:, 0], info["actions"][:, 0])
        steering, pedals = candidates[..., :1].clamp(-1, 1), candidates[..., 1:3].clamp(0, 1)
        actions = torch.cat([steering, pedals, candidates[..., 3:].clamp(-1, 1).round()], dim=-1).to(device)
        last = info["actions"][:, :, -1].to(device).flatten(0, 1)
        return costs_of(roll, actions.flatten(0, 1), last, self._settings, self._cost, self._task).view(shape)
