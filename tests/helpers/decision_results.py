"""Results of `daydrive plan`, `learn-policy` and `rank` as these commands write them, with planted numbers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

MODEL = {"checkpoint": "demo/step-860", "training_step": 860}


def plan_results() -> dict[str, Any]:
    shares = {"world_model": 0.9, "simulator": 1.0, "scripted": 1.0, "random": 0.5, "straight": 0.7}
    drivers = {
        name: {
            "lane_share": share, "lane_share_interval": [share - 0.1, share], "off_road_share": 0.02, "lane_error": 0.3,
            "speed_error": 0.125, "ms_per_decision": 41.26, "jerk": 1.0,
        }
        for name, share in shares.items()
    }  # fmt: skip
    by_speed = {speed: copy.deepcopy(drivers) for speed in ("5", "8")}
    return {**MODEL, "roads": 7, "seconds": 6.0, "drivers": drivers, "by_target_speed": by_speed}


def policy_results() -> dict[str, Any]:
    shares = {"world_model": 0.8, "cloning": 0.4, "cloning_noise": 0.2, "simulator": 0.9}
    policies = {
        name: {
            "lane_share": 0.97, "lane_share_interval": [0.91, 1.0], "speed": 9.5, "recovered_share": share,
            "recovered_share_interval": [share - 0.1, share + 0.1],
            "recovered": {"1 m": {"share": share, "interval": None}, "5 degrees": {"share": 0.33, "interval": None}},
            "minutes": {"wall": 4.0, "cpu": 2.5},
        }
        for name, share in shares.items()
    }  # fmt: skip
    return {**MODEL, "roads": [1, 2, 3], "seeds": [0], "policies": policies}


def rank_results() -> dict[str, Any]:
    found = {
        "spearman": 0.87, "spearman_interval": [0.73, 0.95], "kendall": 0.7, "kendall_interval": None,
        "cheat_spearman": -0.09,
        "lane_error": {
            "lag 9": {"model": 0.66, "simulator": 1.46}, "good": {"model": 0.25, "simulator": 0.2},
            "gain 0": {"model": 0.73, "simulator": 0.91},
        },
    }  # fmt: skip
    seeds = [{"seed": 0, "spearman": 0.81}, {"seed": 1, "spearman": 0.93}]
    horizons = {"1": {**found, "spearman": 0.5, "by_seed": seeds}, "3": {**found, "by_seed": seeds}}
    return {**MODEL, "roads": 8, "main_horizon": "3", "horizons": horizons}


RESULTS = {"plan": plan_results, "policy": policy_results, "rank": rank_results}
"""By the name of the JSON file."""


def write_results(folder: Path) -> list[Path]:
    """The folders of the three commands below `folder`."""
    folders = []
    for name, results in RESULTS.items():
        (folder / name).mkdir()
        (folder / name / f"{name}.json").write_text(json.dumps(results()))
        folders.append(folder / name)
    return folders
