"""The tables of planning, learned policies and the ranking of drivers, for Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daydrive.report.tables import Rows, format_number, format_with_interval

_DRIVEN = {
    "off the road": ("off_road_share", ".0%"),
    "lane error (m)": ("lane_error", ".2f"),
    "speed error (m/s)": ("speed_error", ".2f"),
    "ms per decision": ("ms_per_decision", ".1f"),
}


def tables(entry: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """The tables of the results of `daydrive plan`, `learn-policy` or `rank`, with their captions."""
    results = entry["results"]
    if entry["command"] == "plan":
        return [("Drivers in the true simulator", planning(results))]
    if entry["command"] == "learn-policy":
        return [("Policies in the true simulator", policies(results))]
    caption = f"Mean distance from the lane's middle over {results['main_horizon']} s"
    return [("Agreement by horizon", agreement(results)), (caption, ranked_drivers(results))]


def planning(results: Mapping[str, Any]) -> Rows:
    """How a planner and the drivers beside it drove, with intervals over roads."""
    speeds = results["by_target_speed"]
    rows = [
        (
            name,
            *(_share(drivers[name], "lane_share") for drivers in speeds.values()),
            *(format_number(driver[key], form) for key, form in _DRIVEN.values()),
        )
        for name, driver in results["drivers"].items()
    ]
    return Rows(("driver", *(f"in the lane, {speed} m/s [95 % CI]" for speed in speeds), *_DRIVEN), rows)


def policies(results: Mapping[str, Any]) -> Rows:
    """How policies drove from the middle of the lane and from displaced starts, with intervals over roads."""
    displacements = list(results["policies"]["world_model"]["recovered"])
    rows = [
        (
            name,
            _share(policy, "lane_share"),
            f"{policy['speed']:.1f}",
            _share(policy, "recovered_share"),
            *(f"{policy['recovered'][start]['share']:.0%}" for start in displacements),
            f"{policy['minutes']['cpu']:.1f}",
        )
        for name, policy in results["policies"].items()
    ]
    heads = ("policy", "in the lane [95 % CI]", "m/s", "recovered [95 % CI]", *displacements, "minutes of a core")
    return Rows(heads, rows)


def agreement(results: Mapping[str, Any]) -> Rows:
    """How well a model orders drivers, by horizon."""
    rows = [
        (
            f"{seconds} s",
            format_with_interval(found["spearman"], found["spearman_interval"]),
            format_with_interval(found["kendall"], found["kendall_interval"]),
            format_number(found["cheat_spearman"]),
        )
        for seconds, found in results["horizons"].items()
    ]
    return Rows(("over", "Spearman [95 % CI]", "Kendall [95 % CI]", "actions ignored: Spearman"), rows)


def ranked_drivers(results: Mapping[str, Any]) -> Rows:
    """The score of each driver in the simulator and in the model, the best one in the simulator first."""
    scores = results["horizons"][results["main_horizon"]]["lane_error"]
    rows = [
        (name, *(f"{score[world]:.2f}" for world in ("simulator", "model")))
        for name, score in sorted(scores.items(), key=lambda item: item[1]["simulator"])
    ]
    return Rows(("driver", "simulator (m)", "model (m)"), rows)


def _share(entry: Mapping[str, Any], name: str) -> str:
    return format_with_interval(entry[name], entry[f"{name}_interval"], ".0%")
