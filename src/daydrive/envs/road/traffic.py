"""Other vehicles: they keep their lane, follow with the intelligent driver model, brake, and overtake.

IDM: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and microscopic
simulations", Phys. Rev. E 62 (2000).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from daydrive.envs.road.cars import BODIES, KINDS, PAINTS
from daydrive.envs.road.noise import unit
from daydrive.envs.road.road import LANE_CENTRE, Road

HORIZON = 318.0
"""Vehicles come and go at this distance (m) from the car, where haze hides them."""
HEADWAY, GAP, PUSH, COMFORT = 1.4, 3.0, 1.6, 2.5


@dataclass(frozen=True)
class Other:
    """s, d (m) and speed (m/s) along `direction` (+1 with the car, -1 against it); target: wanted offset d."""

    number: int
    kind: str
    paint: int
    direction: int
    s: float
    d: float
    speed: float
    cruise: float
    target: float
    drift: float = 0.0
    acceleration: float = 0.0


@dataclass(frozen=True)
class Ego:
    """What the others see of the car: s, d and speed along the road."""

    s: float
    d: float
    speed: float
    length: float = 4.3


Thing = tuple[int, float, float, float, float]
"""What others heed of a vehicle: number (-1 for the car), s, d, speed along the road, half its length."""


def _new(seed: int, number: int, s: float, direction: int, faster: bool) -> Other:
    kind = KINDS[int(unit(seed, 61, number) * len(KINDS))]
    cruise = (10 + 9 * unit(seed, 62, number)) if not faster else 24 + 5 * unit(seed, 62, number)
    if direction < 0:
        cruise = 13 + 11 * unit(seed, 62, number)
    lane = direction * (LANE_CENTRE + 0.3 * (unit(seed, 63, number) - 0.5))
    paint = int(unit(seed, 64, number) * len(PAINTS))
    return Other(number, kind, paint, direction, s, lane, cruise, cruise, lane)


def first_traffic(seed: int, s: float) -> tuple[list[Other], int]:
    """Vehicles around the start at arc length s, and the next free number."""
    busy = unit(seed, 65)
    others: list[Other] = []
    for number in range(int(1 + 5 * busy)):
        direction = -1 if unit(seed, 66, number) < 0.6 else 1
        place = s + 45 + 250 * (number + unit(seed, 67, number)) / 5
        others.append(_new(seed, number, place, direction, False))
    return others, len(others)


def _leader(me: Other, things: list[Thing]) -> tuple[float, float]:
    """Free gap (m) and speed along my direction of what drives or stands before me in my path."""
    gap, speed = math.inf, me.cruise
    mine = BODIES[me.kind].length / 2
    for number, s, d, v, half in things:
        free = (s - me.s) * me.direction - half - mine
        ahead = (s - me.s) * me.direction > 0 and number != me.number
        if ahead and free < gap and min(abs(d - me.d), abs(d - me.target)) < 1.9:
            gap, speed = free, v * me.direction
    return max(gap, 0.1), speed


def _lane_free(me: Other, things: list[Thing], behind: float, ahead: float, lane: float) -> bool:
    """No one within reach in a lane, counted along my direction."""
    for number, s, d, _, _ in things:
        if -behind < (s - me.s) * me.direction < ahead and abs(d - lane) < 1.9 and number != me.number:
            return False
    return True


def _drive(me: Other, seed: int, time: float, things: list[Thing], road: Road, dt: float) -> Other:
    gap, lead = _leader(me, things)
    bend = max(abs(road.curvature_at(me.s + me.direction * k)) for k in (0, 15, 30))
    wanted = min(me.cruise, math.sqrt(2.6 / max(bend, 1e-4)))
    if unit(seed, 68, me.number, int(time / 7 + unit(seed, 69, me.number))) < 0.10:
        wanted *= 0.45
    free = 1 - (me.speed / max(wanted, 1.0)) ** 4
    near = (GAP + max(0.0, me.speed * HEADWAY + me.speed * (me.speed - lead) / (2 * math.sqrt(PUSH * COMFORT)))) / gap
    acceleration = min(max(PUSH * (free - near * near), -7.5), PUSH)
    acceleration = me.acceleration + (acceleration - me.acceleration) * min(dt / 0.25, 1)
    speed = max(me.speed + acceleration * dt, 0.0)

    home = me.direction * LANE_CENTRE
    target = me.target
    if target * me.direction > 0:
        slow = lead < me.cruise - 2.5 and gap < 12 + 1.2 * me.speed
        straight = bend < 1 / 150
        if slow and straight and _lane_free(me, things, 14, 210, -home):
            target = -home
    elif _lane_free(me, things, 9, 14, home):
        target = home
    push = 1.1 * (target - me.d) - 2.1 * me.drift
    drift = me.drift + min(max(push, -1.6), 1.6) * dt
    return replace(
        me,
        s=me.s + me.direction * speed * dt,
        d=me.d + drift * dt,
        speed=speed,
        target=target,
        drift=drift,
        acceleration=acceleration,
    )


def step_traffic(
    seed: int, time: float, others: list[Other], number: int, ego: Ego, road: Road, dt: float
) -> tuple[list[Other], int]:
    """Everyone dt seconds later; `number` is the next free number. Leavers are replaced at the horizon."""
    things = [(o.number, o.s, o.d, o.speed * o.direction, BODIES[o.kind].length / 2) for o in others]
    things.append((-1, ego.s, ego.d, ego.speed, ego.length / 2))
    moved = [_drive(o, seed, time, things, road, dt) for o in others]
    moved = [o for o in moved if abs(o.s - ego.s) < HORIZON + 10 and 30 < o.s < len(road.table) - 30]
    busy = unit(seed, 65)
    slot = int(time / 2.0)
    if len(moved) < 1 + 6 * busy and unit(seed, 70, slot, len(moved)) < 0.05 + 0.12 * busy:
        u = unit(seed, 71, number)
        direction, faster = (-1, False) if u < 0.6 else (1, u > 0.85)
        place = ego.s + (-HORIZON if faster else HORIZON)
        if 50 < place < len(road.table) - 50 and all(abs(o.s - place) > 45 for o in moved):
            moved.append(_new(seed, number, place, direction, faster))
            number += 1
    return moved, number


def dump(others: list[Other]) -> list[dict[str, Any]]:
    return [asdict(o) for o in others]


def load(rows: list[dict[str, Any]]) -> list[Other]:
    return [Other(**row) for row in rows]
