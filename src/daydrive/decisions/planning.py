"""Planning in a world model, driven in the true simulator beside its ceiling and its baselines."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from daydrive.decisions.closed_loop import Driver, RoadResult, drive_closed_loop, summarize, unseen_roads
from daydrive.decisions.costs import CostFunction, DrivingCost
from daydrive.decisions.drive_images import plot_tracks, sheet_of_drives, video_of_drives
from daydrive.decisions.drivers import LaneKeeper, RandomDriver, StraightDriver
from daydrive.decisions.inputs import Inputs
from daydrive.decisions.planner import Planner, PlannerSettings
from daydrive.decisions.predictors import ModelDynamics, SimulatorDynamics
from daydrive.decisions.result_files import cached
from daydrive.envs.road.env import HZ
from daydrive.files import write_json
from daydrive.workspace import results_workspace, staged_folder

RANDOMIZED = ("world_model", "simulator", "random")
"""Drivers whose drives depend on the seed."""


@dataclass(frozen=True)
class PlanOptions:
    """roads: number of unseen ones of `split`; seconds: on each; target_speeds: m/s; seeds: number of them, for the
    drivers with random numbers; bfloat16: as for `ModelDynamics`."""

    roads: int = 20
    split: str = "test"
    seconds: float = 20.0
    target_speeds: tuple[float, ...] = (5.0, 8.0)
    seeds: int = 1
    bfloat16: bool = True


def plan(
    inputs: Inputs,
    output: Path,
    settings: PlannerSettings,
    options: PlanOptions,
    cost: CostFunction | None = None,
    cost_name: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Drive with the planner and the other drivers, write `plan.json` and images to `output`, and return the former.

    cost: of one's own; the planner in the true simulator has no frames for it, so that it keeps the built-in one.
    cost_name: of it, for `plan.json`.
    """
    own = cost or DrivingCost()
    skip = inputs.loaded.frame_skip
    drivers: dict[str, Driver] = {
        "world_model": Planner(ModelDynamics(inputs.loaded.model, inputs.readout, options.bfloat16), settings, own),
        "simulator": Planner(SimulatorDynamics(skip), settings),
        "scripted": LaneKeeper(),
        "random": RandomDriver(),
        "straight": StraightDriver(),
    }
    about = {
        "checkpoint": str(inputs.loaded.path), "training_step": inputs.loaded.step,
        "readout_store": inputs.readout.info.store, "planner": asdict(settings), "cost": cost_name or asdict(own),  # type: ignore[call-overload]
        **asdict(options), "hz": HZ / skip,
    }  # fmt: skip
    with results_workspace(output, about, "*.npz") as folder:
        results = _drive_all(drivers, inputs.image_size, skip, options, folder, progress)
        found = {**about, "drivers": {name: summarize(each) for name, each in results.items()}}
        found["by_target_speed"] = {
            f"{speed:g}": {name: summarize(each[k :: len(options.target_speeds)]) for name, each in results.items()}
            for k, speed in enumerate(options.target_speeds)
        }
        shown = {name: each[len(options.target_speeds) - 1] for name, each in results.items()}
        with staged_folder(output) as staged:
            write_json(staged / "plan.json", found)
            plot_tracks(staged / "tracks.png", shown)
            sheet_of_drives(staged / "views.png", shown, HZ / skip)
            video_of_drives(staged / "drives.mp4", shown, HZ / skip)
    return found


def _drive_all(
    drivers: dict[str, Driver],
    image_size: tuple[int, int],
    skip: int,
    options: PlanOptions,
    folder: Path,
    progress: Callable[[int, int], None],
) -> dict[str, list[RoadResult]]:
    """The results of each driver, by road, seed and target speed, the last of them fastest.

    The frames of the first road at the last target speed are recorded.
    """
    roads = unseen_roads(options.roads, options.split)
    runs = [
        (name, road, seed, speed)
        for name in drivers
        for road in roads
        for seed in range(options.seeds if name in RANDOMIZED else 1)
        for speed in options.target_speeds
    ]
    results: dict[str, list[RoadResult]] = {name: [] for name in drivers}
    for done, (name, road, seed, speed) in enumerate(runs, start=1):
        record = road == roads[0] and seed == 0 and speed == options.target_speeds[-1]

        drive = functools.partial(
            drive_closed_loop, drivers[name], [road], options.seconds, speed,
            image_size=image_size, frame_skip=skip, seed=seed, record=record,
        )  # fmt: skip
        results[name].append(cached(folder / f"{name}-{road}-{seed}-{speed:g}.npz", drive))
        progress(done, len(runs))
    return results


def plan_table(drivers: dict[str, dict[str, Any]]) -> Table:
    """The drivers of `plan.json`, for the terminal."""
    table = Table(title="in the true simulator, 95 % intervals over roads", title_justify="left")
    table.add_column("driver", no_wrap=True)
    for heading in ("in the lane", "off the road", "lane error", "speed error", "progress", "ms"):
        table.add_column(heading, justify="right")
    for name, driver in drivers.items():
        table.add_row(
            name, _percent(driver, "lane_share"), _percent(driver, "off_road_share"),
            f"{driver['lane_error']:.2f} m", f"{driver['speed_error']:.2f} m/s", f"{driver['progress']:.0%}",
            f"{driver['ms_per_decision']:.3g}",
        )  # fmt: skip
    return table


def _percent(driver: dict[str, Any], name: str) -> str:
    bounds = driver[f"{name}_interval"]
    return f"{driver[name]:.0%}" + ("" if bounds is None else f" ({bounds[0]:.0%} to {bounds[1]:.0%})")
