"""Where a training run lives, and how it starts from the command line."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import torch

from daydrive.config import Config
from daydrive.errors import UserError
from daydrive.files import check_folder, parents_made
from daydrive.training.trainer import train

RUNS = Path("runs")


def train_run(
    config: Config, config_file: Path, data_root: Path | None, run_dir: Path | None, resume: bool, device: torch.device
) -> int:
    """Find the store and the run folder, then train; the exit code.

    Bad input that is found before there is a checkpoint leaves no run folder behind.
    """
    store = data_root or config.data.root
    if store is None:
        raise UserError(f"which drives? --data-root names a store, or data.root in {config_file}")
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": store.resolve()})})
    run = run_dir or run_folder(config_file.stem, resume)
    check_folder(run, "run folder")
    new = not run.exists()
    with parents_made(run):
        try:
            return train(config, store, run, resume, device)
        except UserError:
            if new and not (run / "checkpoints" / "last").is_file():
                shutil.rmtree(run, ignore_errors=True)
            raise


def run_folder(name: str, resume: bool) -> Path:
    """`runs/NAME-TIME`, or the newest of those to go on with."""
    if not resume:
        return RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    begun = sorted(path.parent.parent for path in RUNS.glob(f"{name}-*/checkpoints/last"))
    if not begun:
        raise UserError(f"--resume: no run {RUNS}/{name}-* has a checkpoint yet; --run-dir names another folder")
    return begun[-1]
