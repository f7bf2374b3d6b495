"""Traffic: vehicles that keep their lane, follow with the intelligent driver model, brake and overtake.

IDM: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and microscopic
simulations", Phys. Rev. E 62 (2000).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from daydrive.envs.road.cars import BODIES, BODY_COLOURS, KINDS
from daydrive.envs.road.noise import hash_uniform
from daydrive.envs.road.road import LANE_CENTRE, Road

HORIZON = 318.0
"""Distance (m) from the car at which vehicles appear and disappear, hidden by haze."""
HEADWAY, GAP, MAX_ACCELERATION, COMFORT_BRAKING = 1.4, 3.0, 1.6, 2.5


@dataclass(frozen=True)
class TrafficVehicle:
    """s, d (m) and speed (m/s) along `direction` (+1 with the car, -1 oncoming); target: desired offset d (m)."""

    number: int
    kind: str
    colour_index: int
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
    """The car as seen by the traffic: s, d (m), speed along the road (m/s) and length (m)."""

    s: float
    d: float
    speed: float
    length: float = 4.3


Obstacle = tuple[int, float, float, float, float]
"""A vehicle as seen by the others: number (-1 for the car), s, d, speed along the road, half its length."""


def _spawn(seed: int, number: int, s: float, direction: int, faster: bool) -> TrafficVehicle:
    kind = KINDS[int(hash_uniform(seed, 61, number) * len(KINDS))]
    cruise = (10 + 9 * hash_uniform(seed, 62, number)) if not faster else 24 + 5 * hash_uniform(seed, 62, number)
    if direction < 0:
        cruise = 13 + 11 * hash_uniform(seed, 62, number)
    lane = direction * (LANE_CENTRE + 0.3 * (hash_uniform(seed, 63, number) - 0.5))
    colour_index = int(hash_uniform(seed, 64, number) * len(BODY_COLOURS))
    return TrafficVehicle(number, kind, colour_index, direction, s, lane, cruise, cruise, lane)


def init_traffic(seed: int, s: float) -> tuple[list[TrafficVehicle], int]:
    """Return the vehicles around the start at arc length s (m), and the next free vehicle number."""
    density = hash_uniform(seed, 65)
    others: list[TrafficVehicle] = []
    for number in range(int(1 + 5 * density)):
        direction = -1 if hash_uniform(seed, 66, number) < 0.6 else 1
        position = s + 45 + 250 * (number + hash_uniform(seed, 67, number)) / 5
        others.append(_spawn(seed, number, position, direction, False))
    return others, len(others)


def _leader(own: TrafficVehicle, obstacles: list[Obstacle]) -> tuple[float, float]:
    """Gap (m) to the next vehicle ahead in the path of `own`, and its speed in the direction of `own`."""
    gap, speed = math.inf, own.cruise
    half_length = BODIES[own.kind].length / 2
    for number, s, d, v, half in obstacles:
        gap_ahead = (s - own.s) * own.direction - half - half_length
        ahead = (s - own.s) * own.direction > 0 and number != own.number
        if ahead and gap_ahead < gap and min(abs(d - own.d), abs(d - own.target)) < 1.9:
            gap, speed = gap_ahead, v * own.direction
    return max(gap, 0.1), speed


def _lane_free(own: TrafficVehicle, obstacles: list[Obstacle], behind: float, ahead: float, lane: float) -> bool:
    """Whether a lane is free from `behind` to `ahead` metres around `own`, in its direction."""
    for number, s, d, _, _ in obstacles:
        if -behind < (s - own.s) * own.direction < ahead and abs(d - lane) < 1.9 and number != own.number:
            return False
    return True


def _step_vehicle(
    own: TrafficVehicle, seed: int, time: float, obstacles: list[Obstacle], road: Road, dt: float
) -> TrafficVehicle:
    gap, lead = _leader(own, obstacles)
    bend = max(abs(road.curvature_at(own.s + own.direction * k)) for k in (0, 15, 30))
    desired = min(own.cruise, math.sqrt(2.6 / max(bend, 1e-4)))
    if hash_uniform(seed, 68, own.number, int(time / 7 + hash_uniform(seed, 69, own.number))) < 0.10:
        desired *= 0.45
    free_road = 1 - (own.speed / max(desired, 1.0)) ** 4
    braking = own.speed * (own.speed - lead) / (2 * math.sqrt(MAX_ACCELERATION * COMFORT_BRAKING))
    interaction = (GAP + max(0.0, own.speed * HEADWAY + braking)) / gap
    acceleration = min(max(MAX_ACCELERATION * (free_road - interaction * interaction), -7.5), MAX_ACCELERATION)
    acceleration = own.acceleration + (acceleration - own.acceleration) * min(dt / 0.25, 1)
    speed = max(own.speed + acceleration * dt, 0.0)

    home = own.direction * LANE_CENTRE
    target = own.target
    if target * own.direction > 0:
        slow = lead < own.cruise - 2.5 and gap < 12 + 1.2 * own.speed
        straight = bend < 1 / 150
        if slow and straight and _lane_free(own, obstacles, 14, 210, -home):
            target = -home
    elif _lane_free(own, obstacles, 9, 14, home):
        target = home
    lateral_acceleration = 1.1 * (target - own.d) - 2.1 * own.drift
    drift = own.drift + min(max(lateral_acceleration, -1.6), 1.6) * dt
    return replace(
        own,
        s=own.s + own.direction * speed * dt,
        d=own.d + drift * dt,
        speed=speed,
        target=target,
        drift=drift,
        acceleration=acceleration,
    )


def step_traffic(
    seed: int, time: float, others: list[TrafficVehicle], number: int, ego: Ego, road: Road, dt: float
) -> tuple[list[TrafficVehicle], int]:
    """Advance all vehicles by dt seconds; vehicles that leave are replaced at the horizon.

    number: the next free vehicle number. Returns the vehicles and the new next free number.
    """
    obstacles = [(o.number, o.s, o.d, o.speed * o.direction, BODIES[o.kind].length / 2) for o in others]
    obstacles.append((-1, ego.s, ego.d, ego.speed, ego.length / 2))
    vehicles = [_step_vehicle(o, seed, time, obstacles, road, dt) for o in others]
    vehicles = [o for o in vehicles if abs(o.s - ego.s) < HORIZON + 10 and 30 < o.s < len(road.samples) - 30]
    density = hash_uniform(seed, 65)
    slot = int(time / 2.0)
    if len(vehicles) < 1 + 6 * density and hash_uniform(seed, 70, slot, len(vehicles)) < 0.05 + 0.12 * density:
        u = hash_uniform(seed, 71, number)
        direction, faster = (-1, False) if u < 0.6 else (1, u > 0.85)
        position = ego.s + (-HORIZON if faster else HORIZON)
        if 50 < position < len(road.samples) - 50 and all(abs(o.s - position) > 45 for o in vehicles):
            vehicles.append(_spawn(seed, number, position, direction, faster))
            number += 1
    return vehicles, number


def dump(others: list[TrafficVehicle]) -> list[dict[str, Any]]:
    return [asdict(o) for o in others]


def load(rows: list[dict[str, Any]]) -> list[TrafficVehicle]:
    return [TrafficVehicle(**row) for row in rows]
