"""Commands for evaluation, perceptual weights and the demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daydrive.cli.options import Checkpoint, ConfigFile, Device, Overrides, Processes, app
from daydrive.errors import UserError, did_you_mean


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    data_root: Annotated[Path, typer.Option(help="store")],
    output: Annotated[Path, typer.Option(help="folder for metrics, images and the report")],
    adapter: Annotated[
        str | None, typer.Option(help="FILE.py:NAME, a function that loads --checkpoint as another kind of model")
    ] = None,
    split: Annotated[str, typer.Option(help="val, test or train")] = "test",
    steps: Annotated[int, typer.Option("--horizon", help="steps to predict")] = 50,
    clips: Annotated[int, typer.Option(help="number of clips, evenly spaced")] = 64,
    predictions: Annotated[int, typer.Option(help="number of clips whose frames predictions.npz contains")] = 64,
    batch_size: Annotated[int, typer.Option(help="clips per batch; does not affect the metrics")] = 8,
    seed: Annotated[int, typer.Option(help="for pairing clips with the actions of other clips")] = 0,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="also left, straight and right from one moment of the road world")
    ] = False,
    controllability: Annotated[
        bool, typer.Option("--controllability", help="also the controllability scorecard")
    ] = False,
    long: Annotated[bool, typer.Option("--long", help="also rollouts of 200 and 1000 steps")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="the most likely frames of a model that samples")
    ] = False,
    samples: Annotated[
        int, typer.Option(metavar="K", help="also K sampled futures of 16 clips, of a model that samples; K >= 2")
    ] = 0,
    lpips: Annotated[str | None, typer.Option(help="alexnet or vgg16; default: alexnet if available")] = None,
    lpips_weights: Annotated[Path | None, typer.Option(help="file of `fetch-weights`; default: the cache")] = None,
    fid_weights: Annotated[Path | None, typer.Option(help="Inception for FID: pt_inception-2015-12-05….pth")] = None,
    fvd_weights: Annotated[Path | None, typer.Option(help="I3D (Kinetics-400) for FVD: rgb_imagenet.pt")] = None,
    compare: Annotated[
        list[Path] | None, typer.Option(help="folder of another evaluation of the same clips; repeatable")
    ] = None,
    human: Annotated[Path | None, typer.Option(help="results of `daydrive drive --blind`, for the report")] = None,
    decisions: Annotated[
        list[Path] | None, typer.Option(help="folder of `daydrive plan`, `learn-policy` or `rank`; repeatable")
    ] = None,
    processes: Processes = "auto",
    device: Device = "auto",
) -> None:
    """Evaluate a model against baselines.

    Writes metrics, images and a report. An interrupted evaluation continues when run again. Under torchrun the
    processes share the clips.
    """
    from daydrive.devices import find_device
    from daydrive.distributed import is_first_process
    from daydrive.evaluation import EvaluateConfig
    from daydrive.evaluation import evaluate as run
    from daydrive.progress import CountProgress
    from daydrive.report.sentences import (
        long_sentence,
        realistic_sentence,
        samples_sentence,
        usable_sentence,
        verdict_sentence,
    )
    from daydrive.report.text import margins_table
    from daydrive.workspace import partial

    config = EvaluateConfig(
        split=split, horizon=steps, clips=clips, predictions=predictions, batch_size=batch_size, seed=seed,
        counterfactual=counterfactual, controllability=controllability, long=long,
        deterministic=deterministic, samples=samples,
        lpips=lpips, lpips_weights=lpips_weights, fid_weights=fid_weights, fvd_weights=fvd_weights,
        compare_with=tuple(compare or ()), human=human, decisions=tuple(decisions or ()),
    )  # fmt: skip
    console = Console(quiet=not is_first_process())
    where = find_device(device)
    try:
        with CountProgress(console, "clips") as progress:
            result = run(
                checkpoint,
                data_root,
                output,
                config,
                adapter=adapter,
                device=where,
                processes=processes,
                progress=progress,
            )
    except KeyboardInterrupt:
        hint = f"; the same command continues from {partial(output)}" if partial(output).is_dir() else ""
        print(f"interrupted{hint}", file=sys.stderr)
        raise
    if not result:
        return
    console.print(margins_table(result))
    console.print(usable_sentence(result), soft_wrap=True)
    for sentence in (realistic_sentence, verdict_sentence, samples_sentence, long_sentence):
        if sentence(result):
            console.print(sentence(result), soft_wrap=True)
    for name in (
        "report.html",
        "report.md",
        "MODEL_CARD.md",
        "evaluation.json",
        "strip.png",
        "horizon.png",
        "rollouts.mp4",
        "counterfactual.png",
        "samples.png",
    ):
        if (output / name).is_file():
            console.print(f"{output / name}", soft_wrap=True)


@app.command()
def fetch_weights(network: Annotated[str, typer.Argument(help="vgg16 or alexnet")]) -> None:
    """Download a network for LPIPS and `loss.perceptual`.

    No other command downloads anything.
    """
    from daydrive.perceptual import BACKBONES, fetch_weights

    if network not in BACKBONES:
        raise UserError(f"there is no perceptual network '{network}'{did_you_mean(network, BACKBONES)}")
    print(fetch_weights(network))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="run folder")] = Path("runs/demo"),
    data_root: Annotated[Path, typer.Option(help="store")] = Path("data/processed/road"),
    config: ConfigFile = Path("configs/training/demo.yaml"),
    drives: Annotated[int, typer.Option(min=3, help="number of drives to generate")] = 72,
    clips: Annotated[int, typer.Option(min=2, help="number of clips to evaluate")] = 64,
    processes: Processes = "auto",
    overrides: Overrides = None,
) -> None:
    """Run the whole pipeline on a laptop CPU.

    Generates drives, trains and evaluates. Continues after an interruption.
    """
    from daydrive.demo import run_demo

    raise typer.Exit(run_demo(folder, data_root, config, overrides or [], drives, clips, processes))
