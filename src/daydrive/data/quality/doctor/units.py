"""Factors of common unit mix-ups."""

from __future__ import annotations

import math
from typing import NamedTuple


class UnitMixUp(NamedTuple):
    """factor: by which the stored values are too large. description: of the mix-up."""

    factor: float
    description: str


STEERING = (
    UnitMixUp(math.degrees(1.0), "degrees mistaken for radians"),
    UnitMixUp(math.radians(1.0), "radians mistaken for degrees"),
    UnitMixUp(100.0, "percent mistaken for a share"),
    UnitMixUp(0.01, "a share mistaken for percent"),
)
SPEED = (
    UnitMixUp(3.6, "km/h mistaken for m/s"),
    UnitMixUp(1 / 3.6, "m/s mistaken for km/h"),
    UnitMixUp(1 / 0.44704, "miles per hour mistaken for m/s"),
    UnitMixUp(0.44704, "m/s mistaken for miles per hour"),
    UnitMixUp(1.609344, "km/h mistaken for miles per hour"),
    UnitMixUp(1 / 1.609344, "miles per hour mistaken for km/h"),
)
TOO_FAST = (SPEED[0], SPEED[2])
NEAR = 1.2
"""Maximum ratio between a measured factor and that of the matching mix-up."""


def match_mix_up(factor: float, units: tuple[UnitMixUp, ...], near: float = NEAR) -> UnitMixUp | None:
    """Return the mix-up whose factor is closest to the measured one, or None if none is within `near`."""
    best = min(units, key=lambda unit: abs(math.log(unit.factor / factor)))
    return best if abs(math.log(best.factor / factor)) < math.log(near) else None
