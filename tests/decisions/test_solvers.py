"""Every solver finds the minimum of a known cost, within the limits, and is a function of its inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from daydrive.decisions.solvers import (
    SOLVERS,
    SolverSettings,
    _coloured_noise,
    _interpolated_noise,
    limit_change,
    shifted,
)

SETTINGS = SolverSettings(samples=64, iterations=12, knots=3, temperature=0.02, elites=8)
TARGETS = torch.tensor([[0.4, -0.6], [-0.2, 0.8]])


def unlimited(plans: Tensor) -> Tensor:
    return plans.clamp(-1, 1)


def bowl(candidates: Tensor) -> Tensor:
    """Squared distance from the target of each problem."""
    assert candidates.ndim == 4 and candidates.shape[0] == 2 and candidates.shape[2:] == (6, 2)
    return (candidates - TARGETS[:, None, None]).square().mean((2, 3))


@pytest.mark.parametrize("name", SOLVERS)
def test_finds_the_minimum_of_every_problem_of_the_batch(name: str) -> None:
    plan, std = torch.zeros(2, 6, 2), torch.tensor([0.5, 0.5])
    found = SOLVERS[name](bowl, plan, std, SETTINGS, unlimited, torch.Generator().manual_seed(0))
    assert found.shape == plan.shape
    before, after = bowl(plan[:, None])[:, 0], bowl(found[:, None])[:, 0]
    assert (after < 0.15 * before).all(), (before, after)
    same = SOLVERS[name](bowl, plan, std, SETTINGS, unlimited, torch.Generator().manual_seed(0))
    other = SOLVERS[name](bowl, plan, std, SETTINGS, unlimited, torch.Generator().manual_seed(1))
    assert same.equal(found) and not other.equal(found)


@pytest.mark.parametrize("name", SOLVERS)
def test_candidates_include_the_plan_and_keep_the_limits(name: str) -> None:
    seen: list[Tensor] = []

    def project(plans: Tensor) -> Tensor:
        return limit_change(plans, torch.zeros(2), torch.tensor([0.1, torch.inf]))

    def cost(candidates: Tensor) -> Tensor:
        seen.append(candidates)
        return candidates.square().sum((2, 3))

    plan = project(torch.full((1, 6, 2), 0.3))
    settings = SolverSettings(samples=16, iterations=2)
    SOLVERS[name](cost, plan, torch.tensor([0.5, 0.5]), settings, project, torch.Generator().manual_seed(0))
    assert len(seen) == 2 and all(each.shape == (1, 16, 6, 2) for each in seen)
    assert any(candidate.equal(plan[0]) for candidate in seen[0][0])
    for each in seen:
        changes = torch.cat([torch.zeros(1, 16, 1, 2), each], dim=2).diff(dim=2)
        assert changes[..., 0].abs().max() <= 0.1 + 1e-6 and changes[..., 1].abs().max() > 0.1


def test_a_worse_sample_never_replaces_the_plan() -> None:
    best = torch.zeros(1, 4, 1)
    for name in ("predictive-sampling", "icem"):
        found = SOLVERS[name](
            lambda c: c.square().sum((2, 3)), best, torch.ones(1), SETTINGS, unlimited, torch.Generator().manual_seed(0)
        )
        assert found.equal(best)


def test_mppi_weights_by_cost_and_temperature() -> None:
    def cost(candidates: Tensor) -> Tensor:
        return candidates[..., 0].mean(2)

    plan, std, generator = torch.zeros(1, 3, 1), torch.ones(1), torch.Generator()
    means = [
        SOLVERS["mppi"](
            cost, plan, std, SolverSettings(samples=256, temperature=temperature), unlimited, generator.manual_seed(0)
        ).mean()
        for temperature in (0.01, 0.5, 1e6)
    ]
    assert means[0] < means[1] - 0.1 < means[2] - 0.2 and abs(means[2]) < 0.1


def test_cem_narrows_its_samples() -> None:
    spreads: list[float] = []

    def cost(candidates: Tensor) -> Tensor:
        spreads.append(candidates[:, 1:].std(1).mean().item())
        return bowl(candidates)

    plan, std = torch.zeros(2, 6, 2), torch.tensor([0.5, 0.5])
    SOLVERS["cem"](cost, plan, std, SETTINGS, unlimited, torch.Generator().manual_seed(0))
    assert spreads[-1] < 0.3 * spreads[0]


@pytest.mark.parametrize("horizon", [1, 2, 5, 8])
def test_noise_has_variance_one(horizon: int) -> None:
    plan, settings = torch.zeros(1, horizon, 2), SolverSettings(samples=20_000, exponent=2.0)
    noise = _coloured_noise(plan, settings, torch.Generator().manual_seed(0))
    assert noise.shape == (1, 20_000, horizon, 2)
    assert noise.std(1) == pytest.approx(torch.ones(1, horizon, 2), abs=0.03)
    constant = _interpolated_noise(plan, settings, torch.Generator().manual_seed(0))
    assert constant.shape == noise.shape and constant[..., :1, :].expand_as(constant).equal(constant)
    assert constant.std(1) == pytest.approx(torch.ones(1, horizon, 2), abs=0.03)


def test_coloured_noise_is_smoother_than_white_noise() -> None:
    plan = torch.zeros(1, 12, 1)
    change = [
        _coloured_noise(plan, SolverSettings(samples=5000, exponent=e), torch.Generator().manual_seed(0))
        .diff(dim=2)
        .std()
        for e in (0.0, 2.0)
    ]
    assert change[1] < 0.6 * change[0]


def test_shifting_repeats_the_last_step() -> None:
    assert shifted(torch.tensor([[[1.0], [2.0], [3.0]]])).flatten().tolist() == [2, 3, 3]
