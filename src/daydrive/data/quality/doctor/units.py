"""Factors between units that people mix up."""

from __future__ import annotations

import math
from typing import NamedTuple


class Mixed(NamedTuple):
    """factor: by which what the store says is too large; said: what was taken for what."""

    factor: float
    said: str


STEERING = (
    Mixed(math.degrees(1.0), "degrees taken for radians"),
    Mixed(math.radians(1.0), "radians taken for degrees"),
    Mixed(100.0, "percent taken for a share"),
    Mixed(0.01, "a share taken for percent"),
)
SPEED = (
    Mixed(3.6, "km/h taken for m/s"),
    Mixed(1 / 3.6, "m/s taken for km/h"),
    Mixed(1 / 0.44704, "miles per hour taken for m/s"),
    Mixed(0.44704, "m/s taken for miles per hour"),
    Mixed(1.609344, "km/h taken for miles per hour"),
    Mixed(1 / 1.609344, "miles per hour taken for km/h"),
)
TOO_FAST = (SPEED[0], SPEED[2])
NEAR = 1.2
"""A measured factor within this of a known one is that one."""


def known(factor: float, units: tuple[Mixed, ...], near: float = NEAR) -> Mixed | None:
    """The mix-up whose factor is nearest to the measured one, if any is near."""
    best = min(units, key=lambda unit: abs(math.log(unit.factor / factor)))
    return best if abs(math.log(best.factor / factor)) < math.log(near) else None
