"""The benchmark commands: suites with targets, and the speed of a long rollout."""

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
    """Writes its results to a JSON file and returns them."""

SUITES = ("model", "data", "training", "all")
TRAINING_CONFIGS = (Path("configs/training/demo.yaml"), Path("configs/training/base.yaml"))


@app.command()
def benchmark(
    suite: Annotated[str, typer.Argument(help="suite to run: model, data, training or all")],
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="model, all: run folder, checkpoint folder or model.safetensors; repeatable to compare"),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="model, all: external model, FILE.py:NAME@CHECKPOINT; repeatable"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON file of results, plus a PNG; default: runs/benchmark/SUITE.json")
    ] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="training, all: config to train; repeatable; default: demo and base")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="model, training, all: store; default: noise at 10 Hz, generated road drives")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few repetitions: a smoke test, not a measurement")] = False,
    device: Device = "auto",
) -> None:
    """Benchmark rollouts, data loading and training.

    Prints tables and writes a JSON file and an image, with targets and other models for comparison. Suite model:
    latency, throughput, memory, FLOPs and energy, on the CPU and
    the GPU if there is one. Suite data: the data loader. Suite training: training steps, loading, saving and logging.
    """
    from daydrive.benchmarks.findings import table
    from daydrive.benchmarks.model import benchmark_model
    from daydrive.benchmarks.plot import draw
    from daydrive.benchmarks.summary_tables import tables

    if suite not in SUITES:
        raise UserError(f"there is no benchmark '{suite}' among {', '.join(SUITES)}{did_you_mean(suite, SUITES)}")
    _check_options(suite, checkpoint, adapter, config, data_root)
    console = Console()
    file = output or Path("runs/benchmark") / f"{suite}.json"
    if file.suffix == ".png":
        raise UserError(f"--output {file}: name the JSON file; the PNG is written beside it")
    where = _devices(device)

    def of_model(file: Path) -> tuple[Findings, dict[str, Target]]:
        assert checkpoint
        return benchmark_model(file, checkpoint, adapter or [], data_root, where, quick, console.print)

    def of_data(file: Path) -> tuple[Findings, dict[str, Target]]:
        from daydrive.benchmarks.data import benchmark_data

        return benchmark_data(file, quick, console.print)

    def of_training(file: Path) -> tuple[Findings, dict[str, Target]]:
        from daydrive.benchmarks.training import benchmark_training

        return benchmark_training(file, config or TRAINING_CONFIGS, data_root, where[-1], quick, console.print)

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
        raise UserError("--data-root is for the suites 'model', 'training' and 'all'; 'data' generates its own drives")


def _devices(name: str) -> list[torch.device]:
    """The devices to measure; auto: the CPU and, if there is one, a GPU, which comes last."""
    import torch

    from daydrive.devices import find_device

    found = find_device(name)
    return [torch.device("cpu"), found] if name == "auto" and found.type == "cuda" else [found]


def _all(
    file: Path, suites: dict[str, Measure], device: torch.device, quick: bool
) -> tuple[Findings, dict[str, Target]]:
    """Run all suites in turn and write one file; the files of the single suites are removed."""
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
    frames: Annotated[int, typer.Option(help="frames to predict")] = 1000,
    device: Device = "auto",
) -> None:
    """Measure speed and stability of a long rollout.

    Prints JSON.
    """
    import json

    from daydrive.benchmarks.model import rollout_speed
    from daydrive.checkpoint import load
    from daydrive.devices import find_device

    if frames < 2:
        raise UserError(f"--frames has to be at least 2, not {frames}")
    where = find_device(device)
    loaded = load(checkpoint, where)
    assert loaded.image_size is not None, "training sets it from the store"
    print(json.dumps(rollout_speed(loaded.model, loaded.image_size, frames, device=where), indent=2))
