"""Planners drive by what their dynamics predict; the dynamics predict what the simulator and the model do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from daydrive.checkpoint import RolloutModel
from daydrive.decisions import Displacement, Observation, Task, drive_closed_loop, summarize, unseen_roads
from daydrive.decisions.closed_loop import first_observation
from daydrive.decisions.costs import DrivingCost, Prediction
from daydrive.decisions.planner import ModelCost, Planner, PlannerSettings, costs_of, to_actions
from daydrive.decisions.predictors import ModelDynamics, Outcome, Roll, SimulatorDynamics
from daydrive.decisions.solvers import SOLVERS, SolverSettings
from daydrive.envs.road import RoadEnv
from daydrive.envs.world_model import Readout
from daydrive.errors import UserError
from daydrive.models.rollout import rollout_uint8
from helpers.architectures import ARCHITECTURES, rollout_model

ROADS = unseen_roads(2)
TASK = Task(8.0, 10.0, 0)


def candidates(count: int, horizon: int, seed: int = 0) -> Tensor:
    controls = torch.rand(count, horizon, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return to_actions(controls)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_planner_in_the_simulator_keeps_lane_and_speed_from_a_displaced_start(solver: str) -> None:
    settings = PlannerSettings(solver=solver, sampling=SolverSettings(samples=8))
    results = drive_closed_loop(Planner(SimulatorDynamics(), settings), ROADS, 5, 6, displacement=Displacement(1, 3))
    summary = summarize(results)
    assert summary["lane_share"] == 1 and summary["speed_error"] < 0.3
    assert all(abs(result.lane_offset[-10:].mean()) < 0.4 for result in results)


def test_pedals_are_planned_if_asked_to() -> None:
    settings = PlannerSettings(plan_pedals=True, sampling=SolverSettings(samples=12))
    (result,) = drive_closed_loop(Planner(SimulatorDynamics(), settings), ROADS[:1], 4, 8)
    assert 0 < result.speed_error < 0.8 and result.lane_share == 1


def test_steering_changes_no_faster_than_its_limit() -> None:
    class Recorder(Planner):
        def act(self, observation: Observation) -> np.ndarray:
            actions.append(super().act(observation))
            return actions[-1]

    for rate in (0.3, 10.0):
        actions: list[np.ndarray] = []
        settings = PlannerSettings(steering_rate=rate, steering_std=0.8)
        drive_closed_loop(Recorder(SimulatorDynamics(), settings), ROADS[:1], 2, displacement=Displacement(2, 10))
        change = np.abs(np.diff([0.0, *(action[0] for action in actions)])).max()
        assert (change <= 0.03 + 1e-6) if rate == 0.3 else (change > 0.1)


def test_the_same_task_gives_the_same_decisions() -> None:
    planner = Planner(SimulatorDynamics(), PlannerSettings(solver="mppi"))
    one, same = (drive_closed_loop(planner, ROADS[:1], 1, seed=3)[0] for _ in range(2))
    assert one.x.tolist() == same.x.tolist()


def test_the_simulator_is_predicted_exactly() -> None:
    start = first_observation(ROADS[0], 1, 8.0, Displacement(0.5, 2))
    actions = candidates(2, 4)
    outcome = SimulatorDynamics(frame_skip=2).start(start)(actions, [2, 4])
    assert outcome.frames is None
    env = RoadEnv()
    for k in range(2):
        env.set_state(start.state)
        for step, action in enumerate(actions[k].numpy(), start=1):
            env.advance(action)
            _, _, info = env.advance(action)
            if step in (2, 4):
                assert outcome.readings["lane_offset"][k, step // 2 - 1] == pytest.approx(info["lane_offset"])
                assert outcome.readings["speed"][k, step // 2 - 1] == pytest.approx(info["speed"])


def test_the_model_is_predicted_as_its_rollout(world_model: RolloutModel, readout: Readout) -> None:
    dynamics, model = ModelDynamics(world_model.model, readout), world_model.model
    start = first_observation(ROADS[0], dynamics.frames, 8.0, Displacement())
    actions = candidates(3, 4)
    outcome = dynamics.start(start)(actions, [1, 3, 4])
    context = start.images[None, -model.context_frames :].expand(3, -1, -1, -1, -1)
    before = start.actions[None, start.actions.shape[0] - model.context_frames + 1 :].expand(3, -1, -1)
    expected = rollout_uint8(model, context, torch.cat([before, actions], dim=1))
    assert outcome.frames is not None and outcome.frames.shape == (3, 3, 3, 64, 64)
    difference = (outcome.frames.int() - expected[:, [0, 2, 3]].int()).abs()
    assert difference.max() <= 1
    pairs = torch.stack([expected[:, 1], expected[:, 2]], dim=1)
    assert outcome.readings["lane_offset"][:, 1] == pytest.approx(readout(pairs)["lane_offset"], abs=0.02)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_candidates_of_any_architecture_do_not_depend_on_each_other(architecture: str) -> None:
    dynamics = ModelDynamics(rollout_model(architecture).model, None)
    start = first_observation(ROADS[0], dynamics.frames, 8.0, Displacement())
    actions = candidates(3, 2)
    together = dynamics.start(start)(actions, [1, 2]).frames
    alone = dynamics.start(start)(actions[1:2], [1, 2]).frames
    assert together is not None and alone is not None and together.shape == (3, 2, 3, 64, 64)
    assert (together[1].int() - alone[0].int()).abs().max() <= 1
    assert (together[0, 1].int() - together[2, 1].int()).abs().max() > 1


def test_a_planner_drives_by_the_images_of_a_model(world_model: RolloutModel, readout: Readout) -> None:
    planner = Planner(ModelDynamics(world_model.model, readout, bfloat16=True))
    (result,) = drive_closed_loop(planner, ROADS[:1], 0.5)
    assert len(result.speed) == 5 and np.isfinite(result.lane_offset).all()


def test_the_convention_of_stable_worldmodel(world_model: RolloutModel, readout: Readout) -> None:
    """`get_cost(info, candidates (B, S, horizon, action_dim)) -> (B, S)`, with `info` expanded over the candidates."""
    dynamics, settings = ModelDynamics(world_model.model, readout), PlannerSettings(horizon=3)
    cost = ModelCost(dynamics, TASK, settings)
    starts = [first_observation(road, dynamics.frames, 8.0, Displacement()) for road in ROADS]
    info = {
        "images": torch.stack([s.images for s in starts])[:, None].expand(-1, 4, -1, -1, -1, -1),
        "actions": torch.stack([s.actions for s in starts])[:, None].expand(-1, 4, -1, -1),
    }
    given = torch.stack([candidates(4, 3, seed) for seed in (1, 2)])
    costs = cost.get_cost(info, given)
    assert costs.shape == (2, 4) and next(cost.parameters()).dtype == torch.float32
    for start, actions, row in zip(starts, given, costs, strict=True):
        alone = costs_of(dynamics.start(start), actions, start.actions[-1], settings, DrivingCost(), TASK)
        assert row == pytest.approx(alone, rel=0.05, abs=0.01)
    outside = given.clone()
    outside[..., 0] *= 9
    assert cost.get_cost(info, outside) == pytest.approx(cost.get_cost(info, outside.clamp(-1, 1)))
    with pytest.raises(UserError, match=r"this cost expects \(B, S, 3, 4\)"):
        cost.get_cost(info, given[:, :, :2])


def prediction(**readings: float) -> Prediction:
    values = {"lane_offset": 0.0, "heading_error": 0.0, "speed": 8.0, **readings}
    actions = to_actions(torch.zeros(1, 3, 2))
    return Prediction(None, {name: torch.full((1, 2), value) for name, value in values.items()}, actions, 8.0, 10.0)


def test_costs_of_leaving_lane_speed_and_road() -> None:
    cost = DrivingCost()
    assert cost(prediction()).item() == 0
    assert cost(prediction(lane_offset=0.875)).item() == pytest.approx(0.25)
    assert cost(prediction(lane_offset=3.5)).item() == pytest.approx(4 + 2)
    assert cost(prediction(speed=4.0)).item() == pytest.approx(0.25)
    towards, away = (prediction(lane_offset=0.8, heading_error=h) for h in (-0.1, 0.1))
    assert cost(towards) < cost(prediction(lane_offset=0.8)) < cost(away)
    jerky = prediction()._replace(actions=to_actions(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])))
    assert cost(jerky).item() == pytest.approx(0.4)
    with pytest.raises(UserError, match="the cost needs 'speed', and the readout reads lane_offset"):
        DrivingCost()(
            prediction()._replace(readings={"lane_offset": torch.zeros(1, 2), "heading_error": torch.zeros(1, 2)})
        )


class Fixed:
    """Dynamics whose only outcome is the mean steering."""

    frames, device = 0, torch.device("cpu")

    def start(self, observation: Observation) -> Roll:
        return lambda actions, steps: Outcome(None, {"steering": actions[..., 0].mean(1, keepdim=True)})


def test_a_cost_of_ones_own() -> None:
    def to_the_left(prediction: Prediction) -> Tensor:
        return (prediction.reading("steering")[:, 0] + 0.4).square()

    planner = Planner(Fixed(), PlannerSettings(sampling=SolverSettings(samples=16)), to_the_left)
    planner.reset(TASK)
    observation = Observation(torch.empty(0), torch.empty(0), {"speed": 8.0}, {})
    for _ in range(10):
        action = planner.act(observation)
    assert action[0] == pytest.approx(-0.4, abs=0.1) and action[3] == 1


@pytest.mark.parametrize(("result", "given"), [(torch.zeros(3), r"\(3,\)"), (1.0, "float")])
def test_what_is_no_cost_is_refused(result: object, given: str) -> None:
    planner = Planner(Fixed(), cost=lambda prediction: result)  # type: ignore[arg-type, return-value]
    planner.reset(TASK)
    with pytest.raises(UserError, match=f"the cost function returned {given} instead of a tensor of shape"):
        planner.act(Observation(torch.empty(0), torch.empty(0), {"speed": 8.0}, {}))


def test_costs_that_are_no_numbers_are_avoided() -> None:
    def undefined_to_the_right(prediction: Prediction) -> Tensor:
        steering = prediction.reading("steering")[:, 0]
        return torch.where(steering > 0.001, torch.nan, steering + 1)

    planner = Planner(Fixed(), PlannerSettings(solver="mppi"), undefined_to_the_right)
    planner.reset(TASK)
    action = planner.act(Observation(torch.empty(0), torch.empty(0), {"speed": 8.0}, {}))
    assert np.isfinite(action).all() and action[0] <= 0


@pytest.mark.parametrize(
    ("settings", "steps"), [((4, 2), [2, 4]), ((5, 2), [1, 3, 5]), ((4, 9), [4]), ((3, 1), [1, 2, 3])]
)
def test_the_last_step_is_always_read(settings: Sequence[int], steps: list[int]) -> None:
    assert PlannerSettings(horizon=settings[0], read_every=settings[1]).steps == steps


def test_settings_that_no_planner_has_are_refused() -> None:
    with pytest.raises(UserError, match="there is no solver 'mpi'; did you mean 'mppi'"):
        Planner(Fixed(), PlannerSettings(solver="mpi"))
    with pytest.raises(UserError, match="at least 2 samples"):
        Planner(Fixed(), PlannerSettings(sampling=SolverSettings(samples=1)))
