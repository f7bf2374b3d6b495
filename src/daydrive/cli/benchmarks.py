"""Commands that time: suites against their targets, and a dream of a thousand frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from daydrive.cli.options import Checkpoint, Device, app
from daydrive.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch

    from daydrive.benchmarks.findings import Findings, Target

    Measure = Callable[[Path], tuple[Findings, dict[str, Target]]]
    """Writes a file of JSON and returns what is in it."""

SUITES = ("model", "data", "training", "all")
OF_A_TRAINING = (Path("configs/training/demo.yaml"), Path("configs/training/base.yaml"))


@app.command()
def benchmark(
    suite: Annotated[str, typer.Argument(help="what to measure: model, data, training or all")],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="model, all: run folder, checkpoint folder or model.safetensors; more of them to compare"),
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="model, all: another model in the same table, FILE.py:NAME@CHECKPOINT")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON file of figures, with a PNG beside it; default: runs/benchmark/SUITE.json")
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="training, all: what to train, one or more; default: demo and base")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="model, training, all: a store; default: noise at 10 Hz, drawn road drives")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few repetitions: to see that it runs, not how fast")] = False,
    device: Device = "auto",
) -> None:
    """What dreaming, loading and training cost, beside their targets and other models: a table, JSON and an image.

    model: seconds, frames a second, memory, arithmetic and energy, on the processor and on a GPU where there is one.
    data: the loader alone. training: a step, loading, saving and logging.
    """
    from daydrive.benchmarks.findings import table
    from daydrive.benchmarks.model import benchmark_model
    from daydrive.benchmarks.plot import draw
    from daydrive.benchmarks.tables import tables

    if suite not in SUITES:
        raise UserError(f"there is no benchmark '{suite}' among {', '.join(SUITES)}{did_you_mean(suite, SUITES)}")
    _check_options(suite, checkpoint, adapter, config, data_root)
    console = Console()
    file = output or Path("runs/benchmark") / f"{suite}.json"
    if file.suffix == ".png":
        raise UserError(f"--output {file}: the metrics are JSON; the image is written beside them")
    where = _devices(device)

    def of_model(file: Path) -> tuple[Findings, dict[str, Target]]:
        assert checkpoint
        return benchmark_model(file, checkpoint, adapter or [], data_root, where, quick, console.print)

    def of_data(file: Path) -> tuple[Findings, dict[str, Target]]:
        from daydrive.benchmarks.data import benchmark_data

        return benchmark_data(file, quick, console.print)

    def of_training(file: Path) -> tuple[Findings, dict[str, Target]]:
        from daydrive.benchmarks.training import benchmark_training

        return benchmark_training(file, config or OF_A_TRAINING, data_root, where[-1], quick, console.print)

    suites: dict[str, Measure] = {"model": of_model, "data": of_data, "training": of_training}
    findings, targets = _all(file, suites, where[-1], quick) if suite == "all" else suites[suite](file)
    image = file.with_suffix(".png")
    draw(image, findings, targets)
    for shown in (*tables(findings), table(findings, targets)):
        console.print(shown)
    for written in (file, image):
        console.print(f"{written}", soft_wrap=True)


def _check_options(
    suite: str,
    checkpoint: list[Path] | None,
    adapter: list[str] | None,
    config: list[Path] | None,
    data_root: Path | None,
) -> None:
    of_a_model = suite in ("model", "all")
    if of_a_model and not checkpoint:
        raise UserError(f"the suite '{suite}' needs --checkpoint, the model to measure")
    if not of_a_model and (checkpoint or adapter):
        raise UserError(f"--checkpoint and --adapter are for the suites 'model' and 'all', not for '{suite}'")
    if config and suite not in ("training", "all"):
        raise UserError(f"--config is for the suites 'training' and 'all', not for '{suite}'")
    if data_root and suite == "data":
        raise UserError("--data-root is for the suites 'model', 'training' and 'all'; 'data' draws its own drives")


def _devices(name: str) -> list[torch.device]:
    """auto: the processor and, where there is one, a GPU, which comes last."""
    import torch

    from daydrive.devices import find_device

    found = find_device(name)
    return [torch.device("cpu"), found] if name == "auto" and found.type == "cuda" else [found]


def _all(
    file: Path, suites: dict[str, Measure], device: torch.device, quick: bool
) -> tuple[Findings, dict[str, Target]]:
    """One after the other into one file; what each writes itself is gone afterwards."""
    from daydrive.benchmarks.findings import Findings, write
    from daydrive.files import check_folder, created_parents
    from daydrive.machine import describe_machine

    if file.is_dir():
        raise UserError(f"--output {file} is a folder; give a file")
    check_folder(file.absolute().parent, "output folder")
    machine = describe_machine(device)
    findings = Findings()
    targets: dict[str, Target] = {}
    with created_parents(file):
        with TemporaryDirectory(prefix=".benchmark-", dir=file.absolute().parent) as folder:
            for name, run in suites.items():
                found, wanted = run(Path(folder) / f"{name}.json")
                findings.add(found)
                targets |= wanted
        write(file, "all", quick, machine, findings, targets)
    return findings, targets


@app.command()
def dream_speed(
    checkpoint: Checkpoint,
    frames: Annotated[int, typer.Option(help="frames to dream")] = 1000,
    device: Device = "auto",
) -> None:
    """Whether a model stays fast and sound in a long dream: figures as JSON."""
    import json

    from daydrive.benchmarks.model import dream_speed as measure
    from daydrive.checkpoint import load
    from daydrive.devices import find_device

    if frames < 2:
        raise UserError(f"--frames has to be at least 2, not {frames}")
    where = find_device(device)
    loaded = load(checkpoint, where)
    assert loaded.image_size is not None, "a training takes it from its store"
    print(json.dumps(measure(loaded.model, loaded.image_size, frames, device=where), indent=2))
