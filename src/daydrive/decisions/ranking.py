"""Whether a model orders drivers as the true simulator does."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from torch import nn

from daydrive.data.sources.road import drive_seed
from daydrive.decisions.closed_loop import (
    Displacement,
    Driver,
    Task,
    drive_closed_loop,
    first_observation,
    unseen_roads,
)
from daydrive.decisions.drivers import LaneKeeper, Skill
from daydrive.decisions.inputs import Inputs
from daydrive.decisions.model_drives import IgnoresActions, drive_in_model
from daydrive.decisions.rank_correlation import kendall, spearman
from daydrive.envs.road.env import HZ
from daydrive.envs.world_model.readout import FRAMES
from daydrive.evaluation.metrics.intervals import bootstrap, interval
from daydrive.files import atomic_replace, write_json
from daydrive.models import Predictor
from daydrive.workspace import results_workspace, staged_folder

Values = npt.NDArray[np.float64]
MakeDriver = Callable[[], Driver]

SKILLS = {
    "good": Skill(),
    "gain 0.5": Skill(gain=0.5), "gain 0.2": Skill(gain=0.2), "gain 0": Skill(gain=0.0),
    "noise 0.1": Skill(noise=0.1), "noise 0.2": Skill(noise=0.2), "noise 0.4": Skill(noise=0.4),
    "lag 3": Skill(lag=3), "lag 6": Skill(lag=6), "lag 9": Skill(lag=9),
    "bias 0.5": Skill(bias=0.5), "bias 1": Skill(bias=1.0),
}  # fmt: skip
"""The graded drivers: lane keepers on the readout of the images that they see."""

HORIZONS = (1.0, 3.0, 5.0)
MAIN_HORIZON = 3.0
LATERAL, HEADING = 1.0, 4.0
"""Starts are displaced by up to this many m and degrees, so that skill shows soon."""


@dataclass(frozen=True)
class RankOptions:
    """roads: number of unseen ones of `split`; target_speed: m/s; seed: of starts and of the drivers' noise; cheats:
    number of repetitions of the planted cheat; bfloat16: as for `drive_in_model`."""

    roads: int = 20
    split: str = "test"
    target_speed: float = 8.0
    seed: int = 0
    cheats: int = 3
    bfloat16: bool = True


def graded_drivers(inputs: Inputs) -> dict[str, MakeDriver]:
    """The drivers of `SKILLS`."""
    return {name: lambda skill=skill: LaneKeeper(skill, inputs.readout) for name, skill in SKILLS.items()}  # type: ignore[misc]


def rank(
    inputs: Inputs,
    output: Path,
    drivers: Mapping[str, MakeDriver],
    options: RankOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Let each driver drive in the simulator and in the model, write `rank.json` to `output`, and return its contents.

    A driver's score is its mean distance from the lane's middle up to a horizon: the true one in the simulator, the one
    that is read from the predicted frames in the model.
    """
    skip, steps = inputs.loaded.frame_skip, round(max(HORIZONS) * HZ / inputs.loaded.frame_skip)
    about = {
        "checkpoint": str(inputs.loaded.path), "training_step": inputs.loaded.step,
        "readout_store": inputs.readout.info.store, "names": list(drivers), **asdict(options), "hz": HZ / skip,
    }  # fmt: skip
    worlds = ["simulator", "model", *(f"cheat-{k}" for k in range(options.cheats))]
    with results_workspace(output, about, "*.npy") as folder:
        experiment = _Experiment(inputs, options, steps)
        errors: dict[str, list[Values]] = {world: [] for world in worlds}
        runs = [(world, number, make) for world in worlds for number, make in enumerate(drivers.values())]
        for done, (world, number, make) in enumerate(runs, start=1):
            drive = functools.partial(experiment.offsets, world, number, make)
            errors[world].append(_cached(folder / f"{world}-{number}.npy", drive))
            progress(done, len(runs))
        found = {**about, **_compared({w: np.stack(each) for w, each in errors.items()}, list(drivers), HZ / skip)}
        with staged_folder(output) as staged:
            write_json(staged / "rank.json", found)
    return found


class _Experiment:
    """The same roads, displaced starts and seeds for every driver, in the simulator and in models."""

    def __init__(self, inputs: Inputs, options: RankOptions, steps: int) -> None:
        self._inputs, self._options, self._steps = inputs, options, steps
        self._roads = unseen_roads(options.roads, options.split)
        random = np.random.default_rng(options.seed)
        self._starts = [Displacement(*random.uniform((-LATERAL, -HEADING), (LATERAL, HEADING))) for _ in self._roads]

    def offsets(self, world: str, number: int, make_driver: MakeDriver) -> Values:
        """Lane offsets (roads, steps) of the driver with a number."""
        if world == "simulator":
            return self._in_simulator(make_driver)
        model = self._inputs.loaded.model
        hz = HZ / self._inputs.loaded.frame_skip
        if world.startswith("cheat"):
            assert isinstance(model, nn.Module)
            model = IgnoresActions(model, hz, drive_seed(int(world.removeprefix("cheat-")), number))
        return self._in_model(make_driver, model, hz)

    def _in_simulator(self, make_driver: MakeDriver) -> Values:
        skip, options, driver = self._inputs.loaded.frame_skip, self._options, make_driver()
        rows = []
        for road, displacement in zip(self._roads, self._starts, strict=True):
            (result,) = drive_closed_loop(
                driver, [road], self._steps * skip / HZ, options.target_speed, displacement=displacement,
                image_size=self._inputs.image_size, frame_skip=skip, seed=options.seed,
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
        tasks = [Task(options.target_speed, hz, drive_seed(options.seed, road)) for road in self._roads]
        return drive_in_model(make_driver, model, inputs.readout, starts, tasks, self._steps, options.bfloat16)


def _cached(file: Path, compute: Callable[[], Values]) -> Values:
    """The array in the file; if there is none, that of `compute`, which is then written."""
    if not file.is_file():
        with atomic_replace(file) as temporary, temporary.open("wb") as handle:
            np.save(handle, compute(), allow_pickle=False)
    return np.asarray(np.load(file), np.float64)


def _compared(offsets: Mapping[str, Values], names: Sequence[str], hz: float) -> dict[str, Any]:
    """offsets: (drivers, roads, steps) by world → scores and coefficients by horizon."""
    horizons = {}
    for seconds in HORIZONS:
        scores = {world: np.abs(each[..., : round(seconds * hz)]).mean(-1) for world, each in offsets.items()}
        cheats = [scores[world] for world in scores if world.startswith("cheat")]
        horizons[f"{seconds:g}"] = {
            **_coefficients(scores["model"], scores["simulator"]),
            "cheat_spearman": float(np.mean([_coefficients(c, scores["simulator"])["spearman"] for c in cheats])),
            "lane_error": {
                name: {"model": float(scores["model"][k].mean()), "simulator": float(scores["simulator"][k].mean())}
                for k, name in enumerate(names)
            },
        }
    main = horizons[f"{MAIN_HORIZON:g}"]
    return {**{name: main[name] for name in main if name != "lane_error"}, "horizons": horizons}


def _coefficients(model: Values, simulator: Values) -> dict[str, Any]:
    """Scores (drivers, roads) → the coefficients of their means over roads, with intervals over roads."""
    draws = bootstrap([str(road) for road in range(model.shape[1])])
    found: dict[str, Any] = {}
    for name, coefficient in (("spearman", spearman), ("kendall", kendall)):
        found[name] = float(coefficient(model.mean(1), simulator.mean(1)))
        found[f"{name}_interval"] = None
        if draws is not None:
            bounds = interval(coefficient(draws.means(model.T), draws.means(simulator.T)))
            found[f"{name}_interval"] = [float(bound) for bound in bounds]
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
    return (
        f"Spearman {found['spearman']:.2f}{between}, Kendall {found['kendall']:.2f}; "
        f"a model that ignores its actions: Spearman {found['cheat_spearman']:.2f}"
    )
