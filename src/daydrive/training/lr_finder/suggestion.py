"""The learning rate that the losses of a sweep suggest: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from daydrive.config import Config

SMOOTHED_DECADES = 0.2
"""Decades of the learning rate that the moving average covers: a lag of a factor of 1.5 at most."""

LOWEST_FRACTION = 0.1
"""A loss is considered lowest within this fraction of the total decrease above the minimum."""

MIN_DECREASE = 0.02
"""A curve is flat where the loss decreases by less than this fraction of the first loss."""

WIDE = 100.0
"""Ratio of the highest to the lowest of the rates with the lowest loss, above which the rate matters little."""


class Suggestion(NamedTuple):
    """rate: rounded to two digits, None without a suggestion. low, high: the range of rates with the lowest loss."""

    rate: float | None
    low: float | None
    high: float | None
    reason: str


class Average:
    """Exponential moving average over `span` values with bias correction (Kingma & Ba 2015)."""

    def __init__(self, span: float) -> None:
        self._keep = 1 - 1 / max(1.0, span)
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        """Add a value; returns the average."""
        self._sum = self._keep * self._sum + (1 - self._keep) * value
        self._weight = self._keep * self._weight + (1 - self._keep)
        return self._sum / self._weight


def exponential_rates(low: float, high: float, steps: int) -> list[float]:
    """`steps` rates from `low` to `high`, each the same factor above the previous one.

    >>> [rate_text(rate) for rate in exponential_rates(1e-4, 1e-1, 4)]
    ['1e-4', '1e-3', '1e-2', '1e-1']
    """
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


def smoothing_span(low: float, high: float, steps: int) -> float:
    """Number of steps that the moving average covers."""
    return SMOOTHED_DECADES * (steps - 1) / math.log10(high / low)


def suggest(rates: Sequence[float], smoothed: Sequence[float]) -> Suggestion:
    """The geometric mean of the rates with the lowest loss.

    The loss is steepest at far lower rates (which Smith 2017 and later work suggest, or a tenth of the rate of the
    minimum): with Adam or Muon it falls as soon as weights move at all. Where it no longer falls, steps are as large
    as they can usefully be, which is where the peak of a schedule with warmup belongs.
    """
    lowest = min(smoothed)
    decrease = smoothed[0] - lowest
    tried = f"between {rate_text(rates[0])} and {rate_text(rates[-1])}"
    if decrease < MIN_DECREASE * smoothed[0]:
        rose = smoothed[-1] > (1 + MIN_DECREASE) * smoothed[0]
        advice = "it rose: use a lower --min-lr" if rose else "use a higher --max-lr"
        return Suggestion(None, None, None, f"the loss, {smoothed[0]:.4g} at first, did not decrease {tried}; {advice}")
    best = [rate for rate, loss in zip(rates, smoothed, strict=True) if loss <= lowest + LOWEST_FRACTION * decrease]
    middle = math.exp(sum(map(math.log, best)) / len(best))
    reason = (
        f"the loss decreased from {smoothed[0]:.4g} to {lowest:.4g} and was lowest, within a tenth of that decrease, "
        f"between {rate_text(best[0])} and {rate_text(best[-1])}; this is their geometric mean"
    )
    if best[-1] > WIDE * best[0]:
        reason += ". Over so wide a range the rate matters little"
    if best[-1] == rates[-1]:
        reason += (
            f". It was still lowest at {rate_text(rates[-1])}, the highest rate tried: the best rate may be higher"
        )
    return Suggestion(float(f"{middle:.1e}"), best[0], best[-1], reason)


def settings_to_write(config: Config, suggested: dict[str, float]) -> dict[str, dict[str, float]]:
    """The suggested rates as section → key → value of the config. 'all' keeps the ratios between the parts."""
    optimizer: dict[str, float] = {}
    before = config.optimizer
    sections = {"optimizer": optimizer}
    for part, rate in suggested.items():
        if part != "all":
            optimizer[f"{part}_lr"] = rate
            continue
        optimizer["lr"] = rate
        for key in ("encoder_lr", "dynamics_lr", "decoder_lr"):
            own = getattr(before, key)
            if own is not None:
                optimizer[key] = float(f"{own * rate / before.lr:.1e}")
        if config.scheduler.min_lr > rate:
            sections["scheduler"] = {"min_lr": float(f"{rate / 100:.1e}")}
    return {section: keys for section, keys in sections.items() if keys}


def rate_text(rate: float) -> str:
    """A rate as in a config, with two digits: `3e-4`, `1.5e-3`."""
    digits, exponent = f"{rate:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"
