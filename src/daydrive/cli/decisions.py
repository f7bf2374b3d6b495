"""`daydrive plan` and `daydrive rank`: decisions made inside a world model, tested in the true simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daydrive.cli.options import Checkpoint, Device, app
from daydrive.errors import UserError, did_you_mean

OutputFolder = Annotated[Path, typer.Option("--output", help="folder for results and images")]
ReadoutFile = Annotated[
    Path | None, typer.Option("--readout", help="file of train-readout; default: that in --output, or a new one")
]
ReadoutStore = Annotated[
    Path | None, typer.Option("--data-root", help="store to train a readout on; default: the model's")
]
RankStore = Annotated[
    Path | None,
    typer.Option("--data-root", help="store to clone drivers of and to train a readout on; default: the model's"),
]
Roads = Annotated[int, typer.Option(min=1, max=10_000, help="number of unseen roads")]
RoadSplit = Annotated[str, typer.Option("--split", help="test, or val: other roads, to choose settings on")]
Precision = Annotated[str, typer.Option(help="of the model: bfloat16 or float32")]


@app.command()
def plan(
    checkpoint: Checkpoint,
    output: OutputFolder,
    readout: ReadoutFile = None,
    data_root: ReadoutStore = None,
    solver: Annotated[str, typer.Option(help="mppi, cem, icem or predictive-sampling")] = "cem",
    samples: Annotated[int, typer.Option(min=2, help="candidates per iteration")] = 6,
    steps: Annotated[int, typer.Option("--horizon", min=1, max=200, help="steps that a plan looks ahead")] = 4,
    iterations: Annotated[int, typer.Option(min=1, help="per decision")] = 1,
    knots: Annotated[int, typer.Option(min=1, help="of a candidate's deviation over the horizon")] = 1,
    steering_rate: Annotated[float, typer.Option(min=0.01, help="largest change of the steering, 1/s")] = 2.0,
    plan_pedals: Annotated[
        bool, typer.Option("--plan-pedals", help="plan throttle and brake too; else they hold the target speed")
    ] = False,
    cost: Annotated[
        str | None, typer.Option(help="FILE.py:NAME, a function that returns the cost function; default: DrivingCost")
    ] = None,
    target_speed: Annotated[list[float] | None, typer.Option(help="m/s, repeatable; default: 5 and 8")] = None,
    roads: Roads = 20,
    split: RoadSplit = "test",
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="on each road")] = 20.0,
    seeds: Annotated[int, typer.Option(min=1, help="number of seeds of the planner and of random actions")] = 1,
    precision: Precision = "bfloat16",
    device: Device = "auto",
) -> None:
    """Plan in a model, and drive in the true road simulator.

    Compares with the same planner in the simulator itself, a scripted driver, random actions and going straight.
    Writes plan.json and images. An interrupted command continues when run again.
    """
    from daydrive.decisions.inputs import load_inputs
    from daydrive.decisions.planner import PlannerSettings
    from daydrive.decisions.planning import PlanOptions, plan_table
    from daydrive.decisions.planning import plan as run
    from daydrive.decisions.solvers import SolverSettings
    from daydrive.devices import find_device
    from daydrive.evaluation.adapter import call_function
    from daydrive.files import check_folder
    from daydrive.progress import CountProgress

    sampling = SolverSettings(samples, iterations, knots, elites=min(SolverSettings.elites, samples))
    settings = PlannerSettings(solver, steps, steering_rate=steering_rate, plan_pedals=plan_pedals, sampling=sampling)
    settings.check()
    speeds = tuple(_check_speed(speed) for speed in target_speed or (5.0, 8.0))
    options = PlanOptions(roads, _check_split(split), seconds, speeds, seeds, _is_bfloat16(precision))
    check_folder(output, "output folder")
    function = None if cost is None else call_function(cost, "cost").result
    if cost is not None and not callable(function):
        raise UserError(f"the cost '{cost}' returns a {type(function).__name__} instead of a cost function")
    console = Console()
    with CountProgress(console, "readout steps") as progress:
        inputs = load_inputs(checkpoint, readout, data_root, output, find_device(device), progress)
    with CountProgress(console, "drives") as progress:
        found = run(inputs, output, settings, options, function, cost, progress)
    console.print(plan_table(found["drivers"]))
    for name in ("plan.json", "tracks.png", "views.png", "drives.mp4"):
        console.print(f"{output / name}", soft_wrap=True)


@app.command()
def rank(
    checkpoint: Checkpoint,
    output: OutputFolder,
    readout: ReadoutFile = None,
    data_root: RankStore = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="FILE.py:NAME, a function that returns a driver, or policy.safetensors; repeatable"),
    ] = None,
    target_speed: Annotated[float, typer.Option(help="m/s")] = 8.0,
    roads: Roads = 20,
    split: RoadSplit = "test",
    seed: Annotated[int, typer.Option(min=0, help="of the starts and of the drivers' noise")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="number of seeds, from --seed on")] = 1,
    precision: Precision = "bfloat16",
    device: Device = "auto",
) -> None:
    """Compare the order of drivers in a model with that in the true road simulator.

    A dozen drivers of graded skill, policies cloned for a few steps from the drivers of the store, and those of
    --policy drive in both. Writes rank.json. An interrupted command continues when run again.
    """
    from daydrive.decisions.inputs import load_inputs
    from daydrive.decisions.ranked_drivers import check_policies, cloning_store, graded_drivers, user_driver
    from daydrive.decisions.ranking import RankOptions, rank_sentence, rank_table
    from daydrive.decisions.ranking import rank as run
    from daydrive.devices import find_device
    from daydrive.files import check_folder
    from daydrive.progress import CountProgress

    options = RankOptions(
        roads, _check_split(split), _check_speed(target_speed), seed, seeds, bfloat16=_is_bfloat16(precision)
    )
    check_folder(output, "output folder")
    own = {spec: user_driver(spec) for spec in policy or ()}
    console = Console()
    with CountProgress(console, "readout steps") as progress:
        inputs = load_inputs(checkpoint, readout, data_root, output, find_device(device), progress)
    check_policies(own, inputs)
    try:
        store = cloning_store(data_root, inputs.loaded)
    except UserError as error:
        if data_root is not None:
            raise
        store = None
        console.print(f"no cloned policies among the drivers: {error}", soft_wrap=True, markup=False)
    found = run(inputs, output, graded_drivers(inputs) | own, options, store, console)
    console.print(rank_table(found))
    console.print(rank_sentence(found), soft_wrap=True)
    console.print(f"{output / 'rank.json'}", soft_wrap=True)


def _check_speed(speed: float) -> float:
    if not 1 <= speed <= 25:
        raise UserError(f"--target-speed {speed:g}: it is from 1 to 25 m/s")
    return speed


def _check_split(split: str) -> str:
    if split not in ("test", "val"):
        raise UserError(f"--split {split}: unseen roads are test or val{did_you_mean(split, ['test', 'val'])}")
    return split


def _is_bfloat16(precision: str) -> bool:
    if precision not in ("bfloat16", "float32"):
        known = did_you_mean(precision, ["bfloat16", "float32"])
        raise UserError(f"--precision {precision}: there is no such precision{known}")
    return precision == "bfloat16"
