"""Commands that measure, and the demo, which is everything once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daydrive.cli.options import Checkpoint, ConfigFile, Device, Overrides, app
from daydrive.errors import UserError, did_you_mean


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    data_root: Annotated[Path, typer.Option(help="the store")],
    output: Annotated[Path, typer.Option(help="folder for metrics and images")],
    adapter: Annotated[
        str | None, typer.Option(help="FILE.py:NAME, a function that makes another model of --checkpoint dream")
    ] = None,
    split: Annotated[str, typer.Option(help="val, test or train")] = "test",
    horizon: Annotated[int, typer.Option(help="steps to predict")] = 50,
    clips: Annotated[int, typer.Option(help="clips, evenly chosen")] = 64,
    predictions: Annotated[int, typer.Option(help="clips whose frames predictions.npz holds, evenly chosen")] = 64,
    batch_size: Annotated[int, typer.Option(help="clips read at a time; changes no figure")] = 8,
    seed: Annotated[int, typer.Option(help="of which clip lends its actions to which")] = 0,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="also: left, straight, right from one moment of the road world")
    ] = False,
    controllability: Annotated[
        bool, typer.Option("--controllability", help="also: does it obey its driver, in words")
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="also: what becomes of dreams of 200 and 1000 steps")] = False,
    lpips: Annotated[str | None, typer.Option(help="alexnet or vgg16; default: alexnet if it is there")] = None,
    lpips_weights: Annotated[Path | None, typer.Option(help="file of `fetch-weights`; default: the cache")] = None,
    fid_weights: Annotated[Path | None, typer.Option(help="FID's Inception: pt_inception-2015-12-05….pth")] = None,
    fvd_weights: Annotated[Path | None, typer.Option(help="FVD's I3D of Kinetics-400: rgb_imagenet.pt")] = None,
    compare: Annotated[list[Path] | None, typer.Option(help="folder of another evaluation of the same clips")] = None,
    device: Device = "auto",
) -> None:
    """A checkpoint → its margins over the baselines, with images and a report.

    Interrupted it goes on where it was. The processes of torchrun share the clips.
    """
    from daydrive.devices import find_device
    from daydrive.distributed import is_first_process
    from daydrive.evaluation import EvaluateConfig
    from daydrive.evaluation import evaluate as run
    from daydrive.evaluation.output import partial
    from daydrive.progress import CountProgress
    from daydrive.report.sentences import long_sentence, usable_sentence, verdict_sentence
    from daydrive.report.text import margins_table

    config = EvaluateConfig(
        split=split, horizon=horizon, clips=clips, predictions=predictions, batch_size=batch_size, seed=seed,
        counterfactual=counterfactual, controllability=controllability, long=long,
        lpips=lpips, lpips_weights=lpips_weights, fid_weights=fid_weights, fvd_weights=fvd_weights,
        compare_with=tuple(compare or ()),
    )  # fmt: skip
    console = Console(quiet=not is_first_process())
    where = find_device(device)
    try:
        with CountProgress(console, "clips") as progress:
            result = run(checkpoint, data_root, output, config, adapter=adapter, device=where, progress=progress)
    except KeyboardInterrupt:
        left = f"; the same command goes on from {partial(output)}" if partial(output).is_dir() else ""
        print(f"interrupted{left}", file=sys.stderr)
        raise
    if not result:
        return
    console.print(margins_table(result))
    console.print(usable_sentence(result), soft_wrap=True)
    for sentence in (verdict_sentence(result), long_sentence(result)):
        if sentence:
            console.print(sentence, soft_wrap=True)
    for name in (
        "report.html",
        "report.md",
        "MODEL_CARD.md",
        "evaluation.json",
        "strip.png",
        "horizon.png",
        "rollouts.mp4",
        "counterfactual.png",
    ):
        if (output / name).is_file():
            console.print(f"{output / name}", soft_wrap=True)


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
    drives: Annotated[int, typer.Option(min=3, help="to draw")] = 72,
    clips: Annotated[int, typer.Option(min=2, help="to measure")] = 64,
    overrides: Overrides = None,
) -> None:
    """Everything once, on a laptop's processor: draw drives, train, evaluate. Goes on where it was interrupted."""
    from daydrive.demo import run_demo

    raise typer.Exit(run_demo(folder, data_root, config, overrides or [], drives, clips))
