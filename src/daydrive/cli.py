"""The command line: `daydrive COMMAND`, and the same commands as `python scripts/COMMAND.py`.

Bad input ends with one sentence and exit code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from daydrive.errors import UserError, did_you_mean

BAD_INPUT, INTERRUPTED = 2, 130

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for a wrong command line; some versions bring their own copy of click, without a public name."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="World models of driving: prepare drives, train, measure, dream. --debug shows tracebacks.",
)

ConfigFile = Annotated[Path, typer.Option("--config", help="YAML file of settings")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …, or auto: a GPU where there is one")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…", help="settings to change")]


@app.command()
def prepare_dataset(
    dataset: Annotated[str, typer.Option(help="road, gym, udacity or folder")],
    data_root: Annotated[Path | None, typer.Option(help="folder of the recordings; road and gym need none")] = None,
    output: Annotated[Path | None, typer.Option(help="the store; default: data/processed/DATASET")] = None,
    image_size: Annotated[tuple[int, int] | None, typer.Option(metavar="H W", help="default: 64 64")] = None,
    drives: Annotated[int | None, typer.Option(help="road, gym: how many")] = None,
    frames: Annotated[int | None, typer.Option(help="road, gym: frames of each drive")] = None,
    seed: Annotated[int | None, typer.Option(help="of what is drawn and of the split")] = None,
    env: Annotated[str | None, typer.Option(help="gym: the environment's id")] = None,
    hz: Annotated[float | None, typer.Option(help="frames a second of the store")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; default: one for each processor")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another store that is there")] = False,
) -> None:
    """Raw drives → a store to train from."""
    from daydrive.data.prepare import prepare

    store = prepare(
        dataset, data_root, output, image_size, workers=workers, overwrite=overwrite,
        drives=drives, frames=frames, seed=seed, env=env, hz=hz,
    )  # fmt: skip
    print(f"store: {store}")


@app.command()
def train(
    config: ConfigFile,
    data_root: Annotated[Path | None, typer.Option(help="the store; default: data.root of the config")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="default: runs/CONFIG-TIME; with --resume its newest")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where the run ended")] = False,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """A store → a run folder with checkpoints, curves and pictures."""
    from daydrive.config import load_config
    from daydrive.devices import find_device
    from daydrive.training.run import train_run

    settings = load_config(config, overrides or [])
    raise typer.Exit(train_run(settings, config, data_root, run_dir, resume, find_device(device)))


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="run folder, checkpoint folder or model.safetensors")],
    data_root: Annotated[Path, typer.Option(help="the store")],
    output: Annotated[Path, typer.Option(help="folder for figures and pictures")],
    split: Annotated[str, typer.Option(help="val, test or train")] = "test",
    horizon: Annotated[int, typer.Option(help="steps to dream")] = 30,
    clips: Annotated[int, typer.Option(help="clips, evenly chosen")] = 64,
    batch_size: Annotated[int, typer.Option(help="clips at a time; changes no figure")] = 8,
    seed: Annotated[int, typer.Option(help="of which clip lends its actions to which")] = 0,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="also: left, straight, right from one moment of the road world")
    ] = False,
    device: Device = "auto",
) -> None:
    """A checkpoint → its margins over copying, with pictures."""
    from daydrive.devices import find_device
    from daydrive.evaluation import evaluate as run
    from daydrive.evaluation import margins_table

    console = Console()
    where = find_device(device)
    with _bar(console, "clips") as progress:
        result = run(
            checkpoint, data_root, split, output,
            horizon=horizon, clips=clips, batch_size=batch_size, seed=seed, device=where,
            with_counterfactual=counterfactual, progress=progress,
        )  # fmt: skip
    console.print(margins_table(result))
    for name in ("evaluation.json", "strip.png", "horizon.png", "rollouts.mp4", "counterfactual.png"):
        if (output / name).is_file():
            console.print(f"{output / name}", soft_wrap=True)


@app.command()
def dream_speed(
    checkpoint: Annotated[Path, typer.Option(help="run folder, checkpoint folder or model.safetensors")],
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


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Callable[[int, int], None] | None]:
    """What to tell how many of how many are done: drawn on a terminal, nothing elsewhere."""
    from rich.progress import Progress

    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main(command: str | None = None) -> None:
    """Run the command line, or one command of it; exits with the code of the outcome."""
    arguments = ([command] if command else []) + sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    try:
        code = app(arguments, standalone_mode=False, prog_name="daydrive")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UsageError, UserError, OSError) as error:
        if debug:
            raise
        print(f"error: {_sentence(error)}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    sys.exit(code or 0)


def _sentence(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, UserError):
        text = str(error)
    elif isinstance(error, OSError):
        text = ": ".join(str(part) for part in (error.filename, error.strerror or error) if part)
    else:
        text = error.format_message()  # type: ignore[attr-defined]
        text = text[:1].lower() + text[1:].removesuffix(".")
    return " ".join(text.split("\n"))
