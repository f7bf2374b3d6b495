"""What the losses of a sweep over learning rates speak for: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from daydrive.config import Config

SMOOTHED_DECADES = 0.2
"""Decades of the rate that the moving average reaches back over, a lag of a factor of 1.5 at most."""

BOTTOM = 0.1
"""Share of the whole fall of the loss by which it may lie above its lowest and still count as lowest."""

LEAST_FALL = 0.02
"""Share of the first loss; a curve that falls less is flat."""


WIDE = 100.0
"""Highest over lowest of the rates at which the loss was lowest."""


class Suggestion(NamedTuple):
    """rate: two digits, None where the curve speaks for none; low, high: the rates at which the loss was lowest."""

    rate: float | None
    low: float | None
    high: float | None
    reason: str


class Average:
    """Exponential moving average over `span` values, corrected for its start (Kingma & Ba 2015)."""

    def __init__(self, span: float) -> None:
        self._keep = 1 - 1 / max(1.0, span)
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        """The average with this value in it."""
        self._sum = self._keep * self._sum + (1 - self._keep) * value
        self._weight = self._keep * self._weight + (1 - self._keep)
        return self._sum / self._weight


def exponential_rates(low: float, high: float, steps: int) -> list[float]:
    """`steps` rates from `low` to `high`, each the same factor above the one before.

    >>> [rate_text(rate) for rate in exponential_rates(1e-4, 1e-1, 4)]
    ['1e-4', '1e-3', '1e-2', '1e-1']
    """
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


def smoothing_span(low: float, high: float, steps: int) -> float:
    """Steps that the moving average reaches back over."""
    return SMOOTHED_DECADES * (steps - 1) / math.log10(high / low)


def suggest(rates: Sequence[float], smoothed: Sequence[float]) -> Suggestion:
    """The middle, on a logarithmic scale, of the rates at which the loss was lowest.

    The loss is steepest far below (Smith 2017 and what followed take that, or a tenth of the lowest): in a sweep with
    Adam or Muon it falls as soon as weights move at all. Where it no longer falls the steps are as large as they
    can usefully be, which is where a schedule with a warmup wants its peak.
    """
    lowest = min(smoothed)
    fall = smoothed[0] - lowest
    tried = f"between {rate_text(rates[0])} and {rate_text(rates[-1])}"
    if fall < LEAST_FALL * smoothed[0]:
        rose = smoothed[-1] > (1 + LEAST_FALL) * smoothed[0]
        way = "it rose instead: sweep from a lower --min-lr" if rose else "sweep to a higher --max-lr"
        return Suggestion(None, None, None, f"the loss, {smoothed[0]:.4g} at first, did not fall {tried}; {way}")
    bottom = [rate for rate, loss in zip(rates, smoothed, strict=True) if loss <= lowest + BOTTOM * fall]
    middle = math.exp(sum(map(math.log, bottom)) / len(bottom))
    reason = (
        f"the loss fell from {smoothed[0]:.4g} to {lowest:.4g} and was lowest, within a tenth of that fall, between "
        f"{rate_text(bottom[0])} and {rate_text(bottom[-1])}; this is the middle of those rates"
    )
    if bottom[-1] > WIDE * bottom[0]:
        reason += ". Over a range so wide the rate matters little"
    if bottom[-1] == rates[-1]:
        reason += f". It had not risen again at {rate_text(rates[-1])}, the last rate tried: the best may be higher"
    return Suggestion(float(f"{middle:.1e}"), bottom[0], bottom[-1], reason)


def settings_to_write(config: Config, suggested: dict[str, float]) -> dict[str, dict[str, float]]:
    """Section → key → value of the config for the rates suggested, by part; 'all' keeps the ratios of the parts."""
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
    """`3e-4`, `1.5e-3`: two digits, as one writes it in a config."""
    digits, exponent = f"{rate:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"
