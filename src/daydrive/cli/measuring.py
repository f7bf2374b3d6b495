"""Commands that measure, and the demo, which is everything once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daydrive.cli.options import Checkpoint, ConfigFile, Device, app, bar
from daydrive.errors import UserError, did_you_mean

SUITES = ("training", "data")


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    data_root: Annotated[Path, typer.Option(help="the store")],
    output: Annotated[Path, typer.Option(help="folder for figures and pictures")],
    split: Annotated[str, typer.Option(help="val, test or train")] = "test",
    horizon: Annotated[int, typer.Option(help="steps to dream")] = 50,
    clips: Annotated[int, typer.Option(help="clips, evenly chosen")] = 64,
    batch_size: Annotated[int, typer.Option(help="clips at a time; changes no figure")] = 8,
    seed: Annotated[int, typer.Option(help="of which clip lends its actions to which")] = 0,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="also: left, straight, right from one moment of the road world")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="also: does it obey its driver, in words")] = False,
    lpips: Annotated[str | None, typer.Option(help="alexnet or vgg16; default: alexnet if it is there")] = None,
    lpips_weights: Annotated[Path | None, typer.Option(help="file of `fetch-weights`; default: the cache")] = None,
    compare: Annotated[list[Path] | None, typer.Option(help="folder of another evaluation of the same clips")] = None,
    device: Device = "auto",
) -> None:
    """A checkpoint → its margins over the floors, with pictures and a report."""
    from daydrive.devices import find_device
    from daydrive.evaluation import evaluate as run
    from daydrive.evaluation import margins_table, usable_sentence, verdict_sentence

    console = Console()
    where = find_device(device)
    with bar(console, "clips") as progress:
        result = run(
            checkpoint, data_root, split, output,
            horizon=horizon, clips=clips, batch_size=batch_size, seed=seed, device=where,
            with_counterfactual=counterfactual, with_card=card, lpips=lpips, lpips_weights=lpips_weights,
            compare_with=compare or (), progress=progress,
        )  # fmt: skip
    console.print(margins_table(result))
    console.print(usable_sentence(result), soft_wrap=True)
    if card:
        console.print(verdict_sentence(result), soft_wrap=True)
    for name in (
        "report.html",
        "report.md",
        "evaluation.json",
        "strip.png",
        "horizon.png",
        "rollouts.mp4",
        "counterfactual.png",
    ):
        if (output / name).is_file():
            console.print(f"{output / name}", soft_wrap=True)


@app.command()
def dream_speed(
    checkpoint: Checkpoint,
    frames: Annotated[int, typer.Option(help="frames to dream")] = 1000,
    device: Device = "auto",
) -> None:
    """How fast a model dreams, and whether it stays so: figures as JSON."""
    import json

    from daydrive.checkpoint import load
    from daydrive.devices import find_device
    from daydrive.evaluation import dream_speed as measure

    if frames < 2:
        raise UserError(f"--frames has to be at least 2, not {frames}")
    where = find_device(device)
    loaded = load(checkpoint, where)
    print(json.dumps(measure(loaded.model, loaded.model.image_size, frames, device=where), indent=2))


@app.command()
def benchmark(
    suite: Annotated[str, typer.Argument(help="what to measure: training or data")],
    output: Annotated[Path, typer.Option(help="JSON file of ratios, targets and the figures behind them")],
    config: Annotated[
        list[Path] | None, typer.Option(help="trainings to measure, one or more; default: demo.yaml and base.yaml")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="a store; without it road drives are drawn")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="few repetitions: to see that it runs, not how fast")] = False,
    device: Device = "auto",
) -> None:
    """How fast a training is and what it spends on loading, saving and logging; or how fast the loader alone is (data),
    against their targets."""
    from daydrive.devices import find_device
    from daydrive.measure.findings import table

    if suite not in SUITES:
        raise UserError(f"there is no benchmark '{suite}' among {', '.join(SUITES)}{did_you_mean(suite, SUITES)}")
    console = Console()
    if suite == "data":
        from daydrive.data.benchmark import benchmark_data

        if config or data_root:
            raise UserError("--config and --data-root are for the suite 'training'; 'data' draws its own drives")
        findings, targets = benchmark_data(output, quick, console.print)
    else:
        from daydrive.training.benchmark import benchmark_training

        configs = config or [Path("configs/training/demo.yaml"), Path("configs/training/base.yaml")]
        findings, targets = benchmark_training(output, configs, data_root, find_device(device), quick, console.print)
    console.print(table(findings, targets))
    console.print(f"{output}", soft_wrap=True)


@app.command()
def fetch_weights(network: Annotated[str, typer.Argument(help="vgg16 or alexnet")]) -> None:
    """Download a perceptual network for `loss.perceptual`; nothing else in daydrive downloads."""
    from daydrive.perceptual import BACKBONES, fetch_weights

    if network not in BACKBONES:
        raise UserError(f"there is no perceptual network '{network}'{did_you_mean(network, BACKBONES)}")
    print(fetch_weights(network))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="run folder of the demo")] = Path("runs/demo"),
    data_root: Annotated[Path, typer.Option(help="its store")] = Path("data/processed/road"),
    config: ConfigFile = Path("configs/training/demo.yaml"),
) -> None:
    """Everything once, on a laptop's processor: draw drives, train, evaluate. Goes on where it was interrupted."""
    from daydrive.demo import run_demo

    raise typer.Exit(run_demo(folder, data_root, config))
