"""Planning by sampling: predictive sampling, MPPI, CEM and iCEM, as functions of a batch of problems.

B problems, S candidates, H steps, A action dimensions. A cost maps candidates (B, S, H, A) to (B, S), as the method
`get_cost` of stable-worldmodel does for given observations.

Howell et al.: Predictive Sampling (2022). Williams et al.: Information Theoretic MPC (2017). Rubinstein: The
Cross-Entropy Method (1999). Pinneri et al.: Sample-efficient Cross-Entropy Method for Real-time Planning (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Cost = Callable[[Tensor], Tensor]
"""Candidates (B, S, H, A) → their costs (B, S); lower is better."""

Projection = Callable[[Tensor], Tensor]
"""Action sequences (..., H, A) → the nearest ones within the limits."""


@dataclass(frozen=True)
class SolverSettings:
    """samples: candidates per iteration, the present plan and those retained included. knots: of the noise over the
    horizon, between which it is interpolated; 1: the same for all steps. temperature: of MPPI, in units of the cost.
    elites: of CEM and iCEM. momentum: share of the previous mean and deviation in theirs. exponent: of the power
    spectrum of iCEM's noise."""

    samples: int = 6
    iterations: int = 1
    knots: int = 1
    temperature: float = 0.05
    elites: int = 3
    momentum: float = 0.1
    exponent: float = 2.0


Solver = Callable[[Cost, Tensor, Tensor, SolverSettings, Projection, torch.Generator], Tensor]
"""cost, plan (B, H, A) to start from, standard deviations (A,), settings, limits, random numbers → plan (B, H, A)."""


def predictive_sampling(
    cost: Cost, plan: Tensor, std: Tensor, settings: SolverSettings, project: Projection, generator: torch.Generator
) -> Tensor:
    """The best of the plan and of samples around it."""
    for _ in range(settings.iterations):
        candidates = _candidates(plan, _interpolated_noise(plan, settings, generator) * std, project)
        plan = _best(candidates, cost(candidates), 1)[:, 0]
    return plan


def mppi(
    cost: Cost, plan: Tensor, std: Tensor, settings: SolverSettings, project: Projection, generator: torch.Generator
) -> Tensor:
    """The mean of samples around the plan, weighted by exp(-cost / temperature)."""
    for _ in range(settings.iterations):
        candidates = _candidates(plan, _interpolated_noise(plan, settings, generator) * std, project)
        weights = torch.softmax(-cost(candidates) / settings.temperature, dim=1)
        plan = (weights[..., None, None] * candidates).sum(1)
    return plan


def cem(
    cost: Cost, plan: Tensor, std: Tensor, settings: SolverSettings, project: Projection, generator: torch.Generator
) -> Tensor:
    """The mean of the elites, to which the samples of the next iteration are fitted."""
    deviation = std.expand_as(plan)
    for _ in range(settings.iterations):
        noise = _interpolated_noise(plan, settings, generator) * deviation[:, None]
        candidates = _candidates(plan, noise, project)
        plan, deviation = _refitted(plan, deviation, _best(candidates, cost(candidates), settings.elites), settings)
    return plan


def icem(
    cost: Cost, plan: Tensor, std: Tensor, settings: SolverSettings, project: Projection, generator: torch.Generator
) -> Tensor:
    """As `cem`, with noise that is correlated in time and with the elites of the previous iteration among the
    candidates; returns the best candidate of all."""
    deviation, elites = std.expand_as(plan), plan[:, None]
    for _ in range(settings.iterations):
        noise = _coloured_noise(plan, settings, generator) * deviation[:, None]
        sampled = _candidates(plan, noise, project)[:, : settings.samples - len(elites[0])]
        candidates = torch.cat([elites, sampled], dim=1)
        elites = _best(candidates, cost(candidates), settings.elites)
        plan, deviation = _refitted(plan, deviation, elites, settings)
    return elites[:, 0]


SOLVERS: dict[str, Solver] = {"mppi": mppi, "cem": cem, "icem": icem, "predictive-sampling": predictive_sampling}


def limit_change(plans: Tensor, previous: Tensor, change: Tensor) -> Tensor:
    """Limit the change from step to step. plans: (..., H, A); previous: (..., A), before the first step; change: (A,),
    at most, infinite for none."""
    steps, last = [], previous
    for step in plans.unbind(-2):
        last = torch.minimum(torch.maximum(step, last - change), last + change)
        steps.append(last)
    return torch.stack(steps, dim=-2)


def shifted(plan: Tensor) -> Tensor:
    """The rest of a plan (B, H, A) after its first step, its last step repeated: the start of the next decision."""
    return torch.cat([plan[:, 1:], plan[:, -1:]], dim=1)


def _candidates(plan: Tensor, noise: Tensor, project: Projection) -> Tensor:
    """The plan itself, then the plan with noise (B, S, H, A)."""
    candidates = plan[:, None] + noise
    candidates[:, 0] = plan
    return project(candidates)


def _interpolated_noise(plan: Tensor, settings: SolverSettings, generator: torch.Generator) -> Tensor:
    """(B, S, H, A), standard normal at its knots."""
    batch, horizon, size = plan.shape
    shape = (batch * settings.samples, size, min(settings.knots, horizon))
    knots = torch.randn(shape, generator=generator)
    noise = F.interpolate(knots, horizon, mode="linear", align_corners=True) if shape[2] > 1 else knots
    return noise.expand(-1, -1, horizon).unflatten(0, (batch, -1)).movedim(-1, -2).to(plan)


def _coloured_noise(plan: Tensor, settings: SolverSettings, generator: torch.Generator) -> Tensor:
    """(B, S, H, A) with a power spectrum of frequency to the power of -exponent, and of variance 1.

    The lowest frequency has that of the next one, as in the paper's code.
    """
    batch, horizon, size = plan.shape
    period = torch.fft.rfftfreq(horizon)
    amplitude = torch.cat([period[1:2], period[1:]]) ** (-settings.exponent / 2) if horizon > 1 else torch.ones(1)
    shape = (batch, settings.samples, size, len(amplitude))
    spectrum = torch.complex(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
    single = [0, -1] if horizon % 2 == 0 else [0]  # frequencies without an imaginary part
    spectrum[..., single] = spectrum[..., single].real.to(spectrum.dtype)
    noise = torch.fft.irfft(spectrum * amplitude, n=horizon)
    weights = torch.full_like(amplitude, 4.0)
    weights[single] = 1
    return (noise * horizon / (weights * amplitude**2).sum().sqrt()).movedim(-1, -2).to(plan)


def _best(candidates: Tensor, costs: Tensor, count: int) -> Tensor:
    """The candidates of lowest cost, best first, (B, count, H, A)."""
    order = costs.argsort(dim=1)[:, :count]
    return candidates[torch.arange(len(candidates), device=order.device)[:, None], order]


def _refitted(plan: Tensor, deviation: Tensor, elites: Tensor, settings: SolverSettings) -> tuple[Tensor, Tensor]:
    spread = elites.std(dim=1, correction=0)
    old, new = settings.momentum, 1 - settings.momentum
    return old * plan + new * elites.mean(dim=1), old * deviation + new * spread
