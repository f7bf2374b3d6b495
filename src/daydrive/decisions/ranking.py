"""Whether a model orders drivers as the true simulator does."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from torch import nn

from daydrive.data.sources.road import drive_seed
from daydrive.data.store.store import Store
from daydrive.decisions.closed_loop import (
    Displacement,
    Task,
    drive_closed_loop,
    first_observation,
    unseen_roads,
)
from daydrive.decisions.inputs import Inputs
from daydrive.decisions.model_drives import IgnoresActions, drive_in_model
from daydrive.decisions.rank_correlation import kendall, spearman
from daydrive.decisions.ranked_drivers import CLONING_STEPS, MakeDriver, cloned_drivers, cloned_name
from daydrive.envs.road.env import HZ
from daydrive.envs.world_model.readout import FRAMES
from daydrive.evaluation.metrics.intervals import bootstrap, interval
from daydrive.files import atomic_replace, write_json
from daydrive.models import Predictor
from daydrive.progress import CountProgress
from daydrive.workspace import results_workspace, staged_folder

Values = npt.NDArray[np.float64]
HORIZONS = (1.0, 3.0, 5.0)
MAIN_HORIZON = 3.0
LATERAL, HEADING = 1.0, 4.0
"""Starts are displaced by up to this many m and degrees, so that skill shows soon."""


@dataclass(frozen=True)
class RankOptions:
    """roads: number of unseen ones of `split`; target_speed: m/s; seed: the first of `seeds`, of the starts and of the
    drivers' noise; cheats: number of repetitions of the planted cheat; bfloat16: as for `drive_in_model`."""

    roads: int = 20
    split: str = "test"
    target_speed: float = 8.0
    seed: int = 0
    seeds: int = 1
    cheats: int = 3
    bfloat16: bool = True


def rank(
    inputs: Inputs,
    output: Path,
    drivers: Mapping[str, MakeDriver],
    options: RankOptions,
    store: Store | None,
    console: Console,
) -> dict[str, Any]:
    """Let each driver drive in the simulator and in the model, write `rank.json` to `output`, and return its contents.

    A driver's score is its mean distance from the lane's middle up to a horizon: the true one in the simulator, the one
    that is read from the predicted frames in the model. store: of which `cloned_drivers` are added; None: none are.
    """
    skip, steps = inputs.loaded.frame_skip, round(max(HORIZONS) * HZ / inputs.loaded.frame_skip)
    names = [*drivers, *map(cloned_name, CLONING_STEPS if store else ())]
    about = {
        "checkpoint": str(inputs.loaded.path), "training_step": inputs.loaded.step,
        "readout_store": inputs.readout.info.store, "cloned_store": store.fingerprint if store else None,
        "names": names, **asdict(options), "hz": HZ / skip,
    }  # fmt: skip
    worlds = ["simulator", "model", *(f"cheat-{k}" for k in range(options.cheats))]
    with results_workspace(output, about, "done-*") as folder:
        if store:
            with CountProgress(console, "cloning steps") as progress:
                drivers = {**drivers, **cloned_drivers(store, inputs, folder, progress)}
        seeds = range(options.seed, options.seed + options.seeds)
        experiments = [_Experiment(inputs, options, seed, steps) for seed in seeds]
        runs = list(itertools.product(worlds, enumerate(drivers.values()), experiments))
        offsets: dict[str, list[Values]] = {world: [] for world in worlds}
        with CountProgress(console, "drivers") as progress:
            for done, (world, (number, make), experiment) in enumerate(runs, start=1):
                drive = functools.partial(experiment.offsets, world, number, make)
                offsets[world].append(_cached(folder / f"done-{world}-{number}-{experiment.seed}.npy", drive))
                progress(done, len(runs))
        shape = (len(names), options.seeds, options.roads, steps)
        by_world = {world: np.stack(each).reshape(shape) for world, each in offsets.items()}
        found = {**about, **_compared(by_world, names, seeds, HZ / skip)}
        with staged_folder(output) as staged:
            write_json(staged / "rank.json", found)
    return found


class _Experiment:
    """The same roads and, of one seed, displaced starts and noise for every driver, in the simulator and in models."""

    def __init__(self, inputs: Inputs, options: RankOptions, seed: int, steps: int) -> None:
        self._inputs, self._options, self._steps, self.seed = inputs, options, steps, seed
        self._roads = unseen_roads(options.roads, options.split)
        random = np.random.default_rng(seed)
        self._starts = [Displacement(*random.uniform((-LATERAL, -HEADING), (LATERAL, HEADING))) for _ in self._roads]

    def offsets(self, world: str, number: int, make_driver: MakeDriver) -> Values:
        """Lane offsets (roads, steps) of the driver with a number."""
        if world == "simulator":
            return self._in_simulator(make_driver)
        model = self._inputs.loaded.model
        hz = HZ / self._inputs.loaded.frame_skip
        if world.startswith("cheat"):
            assert isinstance(model, nn.Module)
            repetition = self.seed * self._options.cheats + int(world.removeprefix("cheat-"))
            model = IgnoresActions(model, hz, drive_seed(repetition, number))
        return self._in_model(make_driver, model, hz)

    def _in_simulator(self, make_driver: MakeDriver) -> Values:
        skip, options, driver = self._inputs.loaded.frame_skip, self._options, make_driver()
        rows = []
        for road, displacement in zip(self._roads, self._starts, strict=True):
            (result,) = drive_closed_loop(
                driver, [road], self._steps * skip / HZ, options.target_speed, displacement=displacement,
                image_size=self._inputs.image_size, frame_skip=skip, seed=self.seed,
            )  # fmt: skip
            missing = self._steps - len(result.lane_offset)
            rows.append(np.pad(result.lane_offset, (0, missing), mode="edge"))
        return np.stack(rows)

    def _in_model(self, make_driver: MakeDriver, model: Predictor, hz: float) -> Values:
        options, inputs = self._options, self._inputs
        frames = max(model.context_frames, FRAMES, make_driver().frames)
        starts = [
            first_observation(
                road, frames, options.target_speed, displacement, inputs.image_size, inputs.loaded.frame_skip
            )
            for road, displacement in zip(self._roads, self._starts, strict=True)
        ]
        tasks = [Task(options.target_speed, hz, drive_seed(self.seed, road)) for road in self._roads]
        return drive_in_model(make_driver, model, inputs.readout, starts, tasks, self._steps, options.bfloat16)


def _cached(file: Path, compute: Callable[[], Values]) -> Values:
    """The array in the file; if there is none, that of `compute`, which is then written."""
    if not file.is_file():
        with atomic_replace(file) as temporary, temporary.open("wb") as handle:
            np.save(handle, compute(), allow_pickle=False)
    return np.asarray(np.load(file), np.float64)


def _compared(offsets: Mapping[str, Values], names: Sequence[str], seeds: Sequence[int], hz: float) -> dict[str, Any]:
    """offsets: (drivers, seeds, roads, steps) by world → scores and coefficients by horizon, of the means over the
    seeds and of each seed."""
    horizons = {}
    for seconds in HORIZONS:
        scores = {world: np.abs(each[..., : round(seconds * hz)]).mean(-1) for world, each in offsets.items()}
        horizons[f"{seconds:g}"] = {
            **_coefficients({world: each.mean(1) for world, each in scores.items()}),
            "by_seed": [
                {"seed": seed, **_coefficients({world: each[:, k] for world, each in scores.items()})}
                for k, seed in enumerate(seeds)
            ],
            "lane_error": {
                name: {world: float(scores[world][k].mean()) for world in ("model", "simulator")}
                for k, name in enumerate(names)
            },
        }
    main = horizons[f"{MAIN_HORIZON:g}"]
    copied = {name: main[name] for name in main if name != "lane_error"}
    return {**copied, "main_horizon": f"{MAIN_HORIZON:g}", "horizons": horizons}


def _coefficients(scores: Mapping[str, Values]) -> dict[str, Any]:
    """Scores (drivers, roads) by world → the coefficients of their means over roads, with intervals over roads."""
    model, simulator = scores["model"], scores["simulator"]
    draws = bootstrap([str(road) for road in range(model.shape[1])])
    found: dict[str, Any] = {}
    for name, coefficient in (("spearman", spearman), ("kendall", kendall)):
        found[name] = float(coefficient(model.mean(1), simulator.mean(1)))
        found[f"{name}_interval"] = None
        if draws is not None:
            bounds = interval(coefficient(draws.means(model.T), draws.means(simulator.T)))
            found[f"{name}_interval"] = [float(bound) for bound in bounds]
    cheats = [scores[world].mean(1) for world in scores if world.startswith("cheat")]
    found["cheat_spearman"] = float(np.mean([spearman(cheat, simulator.mean(1)) for cheat in cheats]))
    return found


def rank_table(found: dict[str, Any]) -> Table:
    """The drivers of `rank.json`, best in the simulator first, for the terminal."""
    errors = found["horizons"][f"{MAIN_HORIZON:g}"]["lane_error"]
    table = Table(title=f"mean distance from the lane's middle over {MAIN_HORIZON:g} s, m", title_justify="left")
    table.add_column("driver")
    table.add_column("simulator", justify="right")
    table.add_column("model", justify="right")
    for name, error in sorted(errors.items(), key=lambda item: item[1]["simulator"]):
        table.add_row(name, f"{error['simulator']:.2f}", f"{error['model']:.2f}")
    return table


def rank_sentence(found: dict[str, Any]) -> str:
    bounds = found["spearman_interval"]
    between = "" if bounds is None else f" ({bounds[0]:.2f} to {bounds[1]:.2f})"
    by_seed = [f"{each['spearman']:.2f}" for each in found["by_seed"]]
    seeds = f", by seed {', '.join(by_seed)}" if len(by_seed) > 1 else ""
    return (
        f"Spearman {found['spearman']:.2f}{between}{seeds}, Kendall {found['kendall']:.2f}; "
        f"a model that ignores its actions: Spearman {found['cheat_spearman']:.2f}"
    )
