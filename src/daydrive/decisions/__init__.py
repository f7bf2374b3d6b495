"""Decisions made inside a world model, tested in the true road simulator: planning and the ranking of drivers."""

from daydrive.decisions.closed_loop import (
    Displacement,
    Driver,
    Observation,
    RoadResult,
    Task,
    drive_closed_loop,
    summarize,
    unseen_roads,
)
from daydrive.decisions.drivers import LaneKeeper, RandomDriver, Skill, StraightDriver

__all__ = [
    "Displacement",
    "Driver",
    "LaneKeeper",
    "Observation",
    "RandomDriver",
    "RoadResult",
    "Skill",
    "StraightDriver",
    "Task",
    "drive_closed_loop",
    "summarize",
    "unseen_roads",
]
