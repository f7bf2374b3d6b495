"""Commands for training: train, find-lr, replay."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.environment import wandb_overrides
from daydrive.cli.options import ConfigFile, ConfiguredStore, Device, Overrides, Processes, app


@app.command()
def train(
    config: ConfigFile = Path("configs/training/base.yaml"),
    data_root: ConfiguredStore = None,
    run_dir: Annotated[Path | None, typer.Option(help="default: runs/CONFIG-TIME; with --resume the newest")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run")] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="resume with changed settings that alter the run")
    ] = False,
    allow_fatal: Annotated[
        bool, typer.Option("--allow-faults", help="train although the data has fatal findings")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only run the checks before the first step")] = False,
    use_wandb: Annotated[bool, typer.Option("--use-wandb", help="also log to Weights & Biases")] = False,
    wandb_project: Annotated[str | None, typer.Option(help="default: WANDB_PROJECT, or daydrive")] = None,
    wandb_name: Annotated[str | None, typer.Option(help="default: WANDB_NAME, or chosen by W&B")] = None,
    wandb_mode: Annotated[
        str | None, typer.Option(help="online, offline (to be synchronised later) or disabled")
    ] = None,
    use_dp: Annotated[bool, typer.Option("--use-dp", help="DataParallel over this machine's GPUs")] = False,
    processes: Processes = "auto",
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Train a model on a store.

    Writes a run folder with checkpoints, curves and images.
    """
    from daydrive.config import load_config
    from daydrive.devices import find_device
    from daydrive.training.context import TrainOptions
    from daydrive.training.run import train_run

    wandb = {"use_wandb": use_wandb or None, "project": wandb_project, "name": wandb_name, "mode": wandb_mode}
    flags = [
        f"logging.{key if key == 'use_wandb' else f'wandb_{key}'}={json.dumps(value)}"
        for key, value in wandb.items()
        if value is not None
    ]
    settings = load_config(config, [*(overrides or []), *flags])
    if settings.logging.use_wandb:
        settings = load_config(config, [*wandb_overrides(os.environ), *(overrides or []), *flags])
    train_options = TrainOptions(resume, allow_change, use_dp, dry_run, allow_fatal)
    where = find_device(device)
    raise typer.Exit(train_run(settings, config, data_root, run_dir, where, train_options, processes))


@app.command()
def find_lr(
    config: ConfigFile = Path("configs/training/base.yaml"),
    data_root: ConfiguredStore = None,
    min_lr: Annotated[float, typer.Option(help="start of the sweep")] = 1e-6,
    max_lr: Annotated[float, typer.Option(help="end of the sweep, unless the loss diverges earlier")] = 1e-1,
    steps: Annotated[int | None, typer.Option(help="default: 25 per decade")] = None,
    part: Annotated[str, typer.Option(help="all, or encoder, dynamics or decoder with the others unchanged")] = "all",
    per_part: Annotated[bool, typer.Option("--per-part", help="one sweep for each part in turn")] = False,
    output: Annotated[Path | None, typer.Option(help="folder; default: runs/find-lr-CONFIG-TIME")] = None,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Find a learning rate for a config by a sweep.

    Writes a plot of the loss curve and a JSON file.
    """
    from daydrive.config import load_config
    from daydrive.devices import find_device
    from daydrive.training.lr_finder.finder import find_lr as find
    from daydrive.training.lr_finder.sweep import check_parts, check_range

    lr_range, parts = check_range(min_lr, max_lr, steps), check_parts(part, per_part)
    settings = load_config(config, overrides or [])
    raise typer.Exit(find(settings, config, data_root, output, find_device(device), parts, lr_range))


@app.command()
def replay(
    fault: Annotated[Path, typer.Argument(help="RUN/faults/step-N, written by training that stopped there")],
    data_root: Annotated[Path | None, typer.Option(help="store; default: its original location")] = None,
    device: Device = "auto",
) -> None:
    """Repeat a training step that was not finite.

    Reports which clip causes the loss or gradient that is not finite, and why. Exit code 0 if the failure is
    reproduced, else 1.
    """
    from daydrive.devices import find_device
    from daydrive.training.nonfinite import replay as replay_step

    replayed = replay_step(fault, find_device(device), data_root)
    print("\n".join(replayed.lines))
    raise typer.Exit(0 if replayed.reproduced else 1)
