"""Suggestions from the losses of a learning-rate sweep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml

from daydrive.config import load_config, parse_config
from daydrive.training.lr_finder.suggestion import (
    Average,
    exponential_rates,
    rate_text,
    settings_to_write,
    smoothing_span,
    suggest,
)
from helpers.paths import REPO

RATES = exponential_rates(1e-6, 1e-1, 125)


def bowl(best: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """Decreases from 1.0 to 0.5 at `best`, then increases more steeply."""
    draws = np.random.default_rng(seed).normal(0, noise, len(RATES))
    return [
        1 - 0.5 * math.exp(-((math.log10(rate / best)) ** 2) / (1.0 if rate < best else 0.4)) + float(draw)
        for rate, draw in zip(RATES, draws, strict=True)
    ]


def smoothed(losses: list[float]) -> list[float]:
    average = Average(smoothing_span(1e-6, 1e-1, 125))
    return [average.add(loss) for loss in losses]


def test_rates_are_logarithmically_spaced() -> None:
    rates = exponential_rates(1e-6, 1e-2, 5)
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2], rel=1e-12)


def test_moving_average_is_bias_corrected() -> None:
    average = Average(5)
    assert average.add(2.0) == pytest.approx(2.0)
    assert average.add(4.0) == pytest.approx((0.8 * 2 + 4) / 1.8)
    assert [Average(1).add(value) for value in (3.0, 7.0)] == [3.0, 7.0]
    steady = Average(5)
    assert [steady.add(1.5) for _ in range(20)] == pytest.approx([1.5] * 20)


@pytest.mark.parametrize("best", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_minimum_of_a_noisy_curve_is_suggested(best: float, seed: int) -> None:
    found = suggest(RATES, smoothed(bowl(best, noise=0.02, seed=seed)))
    assert found.rate is not None and found.low is not None and found.high is not None
    assert best / 2 < found.rate < 2 * best
    assert found.low < found.rate < found.high
    assert rate_text(found.low) in found.reason and "may be higher" not in found.reason


def test_single_outlier_hardly_changes_the_suggestion() -> None:
    losses = bowl(1e-3)
    losses[75] += 1.0
    rate, without = suggest(RATES, smoothed(losses)).rate, suggest(RATES, smoothed(bowl(1e-3))).rate
    assert rate is not None and without is not None and without / 2 < rate < 2 * without


def test_decreasing_loss_at_the_end_is_reported() -> None:
    found = suggest(RATES, bowl(0.3))
    assert found.rate is not None and found.rate > 1e-2
    assert "still lowest at 1e-1, the highest rate tried: the best rate may be higher" in found.reason


def test_flat_minimum_is_reported() -> None:
    flat = [1.0 if rate < 1e-5 else 0.5 if rate < 1e-2 else 2.0 for rate in RATES]
    assert "the rate matters little" in suggest(RATES, flat).reason
    assert "the rate matters little" not in suggest(RATES, bowl(1e-3)).reason


@pytest.mark.parametrize(
    ("losses", "message"),
    [([1.0] * 124 + [0.99], "higher --max-lr"), ([1 + 0.01 * step for step in range(125)], "lower --min-lr")],
)
def test_curve_without_decrease_gives_no_suggestion(losses: list[float], message: str) -> None:
    found = suggest(RATES, losses)
    assert found.rate is None and message in found.reason


def test_suggested_settings_preserve_ratios() -> None:
    config = parse_config({"optimizer": {"lr": 1e-4, "encoder_lr": 1e-5, "decoder_lr": 2e-4}})
    assert settings_to_write(config, {"all": 3e-4}) == {
        "optimizer": {"lr": 3e-4, "encoder_lr": 3e-5, "decoder_lr": 6e-4}
    }
    assert settings_to_write(config, {"encoder": 2e-5, "dynamics": 3e-4}) == {
        "optimizer": {"encoder_lr": 2e-5, "dynamics_lr": 3e-4}
    }
    assert settings_to_write(config, {}) == {}


def test_suggested_settings_are_a_valid_config() -> None:
    written = settings_to_write(parse_config({"scheduler": {"min_lr": 1e-5}}), {"all": 2e-6})
    assert parse_config(dict(written)).optimizer.lr == 2e-6


def test_format_of_rates() -> None:
    assert [rate_text(rate) for rate in (3e-4, 1.5e-3, 0.1, 2.0)] == ["3e-4", "1.5e-3", "1e-1", "2e0"]
    assert yaml.safe_load("x: 1.5e-3") and load_config(REPO / "configs/training/base.yaml", ["optimizer.lr=3e-4"])
