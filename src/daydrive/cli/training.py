"""The commands `train`, `find-lr` and `replay`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from daydrive.cli.environment import wandb_overrides
from daydrive.cli.options import ConfigFile, Device, Overrides, app


@app.command()
def train(
    config: ConfigFile = Path("configs/training/base.yaml"),
    data_root: Annotated[Path | None, typer.Option(help="the store; default: data.root, or the newest")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="default: runs/CONFIG-TIME; with --resume its newest")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the last checkpoint")] = False,
    allow_change: Annotated[bool, typer.Option("--allow-change", help="resume with changed settings")] = False,
    allow_fatal_findings: Annotated[
        bool, typer.Option("--allow-faults", help="train on a store with fatal errors")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="run only the checks before the first step")] = False,
    use_wandb: Annotated[bool, typer.Option("--use-wandb", help="also log to Weights & Biases")] = False,
    wandb_project: Annotated[str | None, typer.Option(help="default: WANDB_PROJECT, or daydrive")] = None,
    wandb_name: Annotated[str | None, typer.Option(help="default: WANDB_NAME, or W&B's choice")] = None,
    wandb_mode: Annotated[str | None, typer.Option(help="online, offline (uploaded later) or disabled")] = None,
    use_dp: Annotated[bool, typer.Option("--use-dp", help="DataParallel over this machine's GPUs")] = False,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Train a model on a store; writes a run folder with checkpoints, curves and images."""
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
    train_options = TrainOptions(resume, allow_change, use_dp, dry_run, allow_fatal_findings)
    raise typer.Exit(train_run(settings, config, data_root, run_dir, find_device(device), train_options))


@app.command()
def find_lr(
    config: ConfigFile = Path("configs/training/base.yaml"),
    data_root: Annotated[Path | None, typer.Option(help="the store; default: data.root, or the newest")] = None,
    min_lr: Annotated[float, typer.Option(help="lowest rate")] = 1e-6,
    max_lr: Annotated[float, typer.Option(help="highest rate, unless the loss diverges before")] = 1e-1,
    steps: Annotated[int | None, typer.Option(help="default: 25 per factor of 10")] = None,
    part: Annotated[str, typer.Option(help="all, encoder, dynamics or decoder; others keep their rates")] = "all",
    per_part: Annotated[bool, typer.Option("--per-part", help="sweep each part by itself")] = False,
    output: Annotated[Path | None, typer.Option(help="folder; default: runs/find-lr-CONFIG-TIME")] = None,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Find a learning rate for the config; writes the curve that it is read from."""
    from daydrive.config import load_config
    from daydrive.devices import find_device
    from daydrive.training.lr_finder.finder import find_lr as find
    from daydrive.training.lr_finder.sweep import check_parts, check_range

    lr_range, parts = check_range(min_lr, max_lr, steps), check_parts(part, per_part)
    settings = load_config(config, overrides or [])
    raise typer.Exit(find(settings, config, data_root, output, find_device(device), parts, lr_range))


@app.command()
def replay(
    fault: Annotated[Path, typer.Argument(help="RUN/faults/step-N of a training that ended with a non-finite step")],
    data_root: Annotated[Path | None, typer.Option(help="the store; default: its path at the time")] = None,
    device: Device = "auto",
) -> None:
    """Evaluate the clips of a non-finite step again: which of them cause it, and why.

    Exit code 0 where it is reproduced, else 1.
    """
    from daydrive.devices import find_device
    from daydrive.training.nonfinite import replay as replay_step

    replayed = replay_step(fault, find_device(device), data_root)
    print("\n".join(replayed.lines))
    raise typer.Exit(0 if replayed.reproduced else 1)
