"""How learned policies drive in the true road simulator: keeping the lane, and returning to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from daydrive.decisions.closed_loop import Displacement, RoadResult, drive_closed_loop
from daydrive.decisions.policy.driver import PolicyDriver
from daydrive.decisions.policy.learners import Progress
from daydrive.decisions.policy.network import Policy
from daydrive.envs.road.env import CAR_WIDTH, HZ
from daydrive.envs.world_model.rewards import HALF_LANE
from daydrive.evaluation.metrics.intervals import bootstrap, interval

DISPLACEMENTS = {
    "0.5 m": Displacement(lateral=0.5),
    "1 m": Displacement(lateral=1.0),
    "1.5 m": Displacement(lateral=1.5),
    "5 degrees": Displacement(heading=5.0),
    "10 degrees": Displacement(heading=10.0),
}
SECONDS, LANE_SECONDS, START_SPEED = 6.0, 12.0, 8.0
"""Length of a drive from a displaced start and from the middle of the lane; m/s at the start."""

WHOLE_CAR = HALF_LANE - CAR_WIDTH / 2
"""Distance (m) from the middle of the lane within which the whole car is in it."""

MOVING = 1.0
"""m/s; a car that stands has not recovered."""


class Driven(NamedTuple):
    """What one policy did. roads: their seeds; lane_share, speed (mean, m/s): of each, from the middle of the lane;
    recovered: of each, by displacement."""

    roads: list[int]
    lane_share: list[float]
    speed: list[float]
    recovered: dict[str, list[bool]]


def drive_policy(policy: Policy, roads: Sequence[int], progress: Progress) -> Driven:
    """Drive on each road from the middle of its lane and from every displacement, to the right on every other road and
    to the left on the rest."""
    driver, total = PolicyDriver(policy), len(roads) * (1 + len(DISPLACEMENTS))
    settings: Any = {"target_speed": START_SPEED, "image_size": policy.info.image_size}
    lane = drive_closed_loop(driver, roads, LANE_SECONDS, **settings, progress=lambda done, _: progress(done, total))
    recovered: dict[str, list[bool]] = {}
    for k, (name, start) in enumerate(DISPLACEMENTS.items(), start=1):
        recovered[name] = []
        for number, road in enumerate(roads):
            side = 1 if number % 2 == 0 else -1
            moved = Displacement(side * start.lateral, side * start.heading)
            (result,) = drive_closed_loop(driver, [road], SECONDS, displacement=moved, **settings)
            recovered[name].append(has_recovered(result))
            progress(k * len(roads) + number + 1, total)
    speed = [float(result.speed.mean()) for result in lane]
    return Driven(list(roads), [result.lane_share for result in lane], speed, recovered)


def has_recovered(result: RoadResult) -> bool:
    """Whether the whole car was in its lane, and moved, during the last of `SECONDS`."""
    complete = len(result.lane_offset) == round(SECONDS * HZ)
    inside = np.abs(result.lane_offset[-HZ:]) <= WHOLE_CAR
    return bool(complete and inside.all() and (result.speed[-HZ:] > MOVING).all())


def summarize_policy(driven: Sequence[Driven]) -> dict[str, Any]:
    """Means of one kind of policy over its seeds, with 95 % intervals over roads.

    speed: m/s. recovered_share: of all displaced starts; recovered: of each displacement, `share` and `interval`.
    """
    roads = [str(road) for each in driven for road in each.roads]
    by_displacement = {
        name: [float(value) for each in driven for value in each.recovered[name]] for name in DISPLACEMENTS
    }
    lane_share = [share for each in driven for share in each.lane_share]
    mean, bounds = _mean(roads, lane_share)
    recovered = [float(value) for value in np.mean(list(by_displacement.values()), axis=0)]
    share, share_bounds = _mean(roads, recovered)
    return {
        "lane_share": mean,
        "lane_share_interval": bounds,
        "speed": float(np.mean([speed for each in driven for speed in each.speed])),
        "recovered_share": share,
        "recovered_share_interval": share_bounds,
        "recovered": {
            name: dict(zip(("share", "interval"), _mean(roads, values), strict=True))
            for name, values in by_displacement.items()
        },
        "recovered_share_by_seed": [float(np.mean(list(each.recovered.values()))) for each in driven],
    }


def ratios(policies: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """The recovered share of `world_model` divided by that of the others; None where that is 0."""
    own = policies["world_model"]["recovered_share"]
    others = {name: each["recovered_share"] for name, each in policies.items() if name != "world_model"}
    return {name: own / share if share else None for name, share in others.items()}


def _mean(roads: Sequence[str], values: Sequence[float]) -> tuple[float, list[float] | None]:
    draws = bootstrap(roads)
    bounds = None if draws is None else [float(bound) for bound in interval(draws.means(values))]
    return float(np.mean(values)), bounds
