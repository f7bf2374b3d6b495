"""Learning to Drive (L2D, Yaak 2025): the units and codes of its columns, which `info.json` does not state.

The speed is in km/h, the heading in degrees clockwise from north, and steering is positive to the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from daydrive.data.sources.mapping import ColumnMapping

STEERING = "action.continuous.steering_angle_normalized"
GEAR = "action.discrete.gear"
SPEED = "observation.state.vehicle.speed"

GEARS = {"P": (0, 0), "R": (1, -1), "N": (2, 0), "D": (3, 1), "B": (4, 1)}
"""Recorded code and gear by lever position; B drives forwards with regenerative braking."""

METRES_PER_SECOND = 1 / 3.6
"""Per km/h."""


def with_units(mapping: ColumnMapping) -> ColumnMapping:
    """The mapping with the conversions of L2D's columns; unchanged for other datasets, and for quantities with a factor
    of their own."""
    columns, scales = mapping.columns, dict(mapping.scales)
    if columns.get("speed") == SPEED:
        scales.setdefault("speed", METRES_PER_SECOND)
    coded = columns.get("gear") == GEAR and "gear" not in scales
    codes = {float(code): float(gear) for code, gear in GEARS.values()} if coded else mapping.gear_codes
    return replace(mapping, scales=scales, gear_codes=codes)


def made_from(mapping: ColumnMapping) -> Mapping[str, str]:
    """What `Drive.made_from` adds where a conversion of L2D applies."""
    found = {}
    if mapping.gear_codes:
        found["gear"] = f"{GEAR} ({', '.join(f'{code} {name}' for name, (code, _) in GEARS.items())})"
    if mapping.columns.get("speed") == SPEED and mapping.scales["speed"] == METRES_PER_SECOND:
        found["speed"] = f"{SPEED} in km/h, converted to m/s"
    return found
