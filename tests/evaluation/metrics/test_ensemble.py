"""Scores of ensembles, compared with their definitions and with known distributions."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from daydrive.evaluation.metrics.ensemble import block_correlation, ensemble_metrics, ensemble_steps
from daydrive.evaluation.metrics.intervals import bootstrap
from daydrive.metrics import psnr

SIGMA = 12.0


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Grey levels of one normal distribution, (..., 3, 32, 48)."""
    values = torch.randn((*shape, 3, 32, 48), generator=torch.Generator().manual_seed(seed))
    return (SIGMA * values + 128).round().clamp(0, 255).to(torch.uint8)


def test_crps_is_the_fair_one_of_the_papers() -> None:
    samples, real = drawn(3, 2), drawn(2, seed=1)
    x, y = samples.double(), real.double()
    pairs = sum((x[j] - x[k]).abs() for j, k in product(range(3), repeat=2))
    by_pixel = (x - y).abs().mean(0) - pairs / (2 * 3 * 2)
    crps = ensemble_metrics(samples, real, real)["crps"]
    torch.testing.assert_close(crps.double(), by_pixel.flatten(1).mean(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_samples_of_the_true_distribution_are_calibrated_for_any_number(count: int) -> None:
    """Real frames of the same distribution as the samples; without the corrections for few samples all would differ."""
    steps, centre = 12, torch.full((12, 3, 32, 48), 128, dtype=torch.uint8)
    metrics = ensemble_metrics(drawn(count, steps), centre, drawn(steps, seed=1))
    (entry,) = ensemble_steps({name: values.mean(0).reshape(1, 1).numpy() for name, values in metrics.items()}, None)
    assert entry["spread_error_ratio"] == pytest.approx(1.0, abs=0.02)
    assert entry["crps"] == pytest.approx(SIGMA / torch.pi**0.5, rel=0.02)
    assert entry["deterministic_error"] == pytest.approx(SIGMA * (2 / torch.pi) ** 0.5, rel=0.02)


def test_best_mean_and_single_are_of_the_same_samples() -> None:
    samples, real = drawn(4, 3), drawn(3, seed=1)
    samples[2, 1] = real[1]
    metrics = ensemble_metrics(samples, samples[0], real)
    each = torch.stack([psnr(frames, real, 255.0) for frames in samples])
    assert torch.equal(metrics["best_psnr"], each.amax(0)) and metrics["best_psnr"][1] == 100
    assert torch.equal(metrics["single_psnr"], each.mean(0)) and torch.equal(metrics["deterministic_psnr"], each[0])
    assert (metrics["mean_image_psnr"][[0, 2]] > metrics["single_psnr"][[0, 2]] + 1).all()


def test_spread_is_correlated_with_error_where_it_is_in_the_same_place() -> None:
    left = torch.zeros(1, 32, 48, dtype=torch.float64)
    left[..., :24] = 9
    assert block_correlation(left, 4 * left).item() == pytest.approx(1)
    assert block_correlation(left, left.flip(-1)).item() == pytest.approx(-1)
    assert block_correlation(torch.ones_like(left), left).item() == 0
    assert block_correlation(left, torch.zeros_like(left)).item() == 0


def test_intervals_contain_the_means() -> None:
    clips = [
        {name: values.numpy() for name, values in ensemble_metrics(drawn(2, 3, seed=k), drawn(3, seed=8), real).items()}
        for k, real in enumerate(drawn(6, 3, seed=9))
    ]
    metrics = {name: torch.tensor([clip[name].tolist() for clip in clips]).double().numpy() for name in clips[0]}
    for entry in ensemble_steps(metrics, bootstrap(["a", "a", "b", "b", "c", "d"])):
        for name in ("best_psnr", "spread", "error", "spread_error_ratio", "crps", "correlation"):
            low, high = entry[f"{name}_interval"]
            assert low <= entry[name] <= high and low < high, name
