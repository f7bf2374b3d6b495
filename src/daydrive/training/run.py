"""Where a training run lives, and how it starts from the command line."""

from __future__ import annotations

import functools
import shutil
from datetime import datetime
from pathlib import Path

import torch

from daydrive import checkpoint
from daydrive.config import Config
from daydrive.data.defaults import find_store
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.files import check_folder, parents_made
from daydrive.training.distributed import join_wanted, joined
from daydrive.training.setup import TrainOptions
from daydrive.training.trainer import train
from daydrive.workspace import LOCK, exclusive_lock

RUNS = Path("runs")


def train_run(
    config: Config,
    config_file: Path,
    data_root: Path | None,
    run_dir: Path | None,
    device: torch.device,
    options: TrainOptions,
) -> int:
    """Find the store and the run folder, then train with all processes that were started; the exit code.

    Bad input that is found before there is a checkpoint leaves no run folder behind.
    """
    store, which = find_store(data_root, config.data)
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": store.resolve()})})
    _, sentence = join_wanted(config.training)
    with joined(config.training, device) as dist:
        run = run_dir or Path(dist.broadcast(str(run_folder(config_file.stem, options.resume)) if dist.is_main else ""))
        if dist.is_main:
            check_folder(run, "run folder")
            for said in (which, sentence, about_data_parallel(options.data_parallel, dist)):
                if said:
                    print(said, flush=True)
        if not dist.is_main:
            dist.barrier()
            return train(config, store, run, dist, options)
        new = not run.exists()
        with parents_made(run):
            try:
                run.mkdir(exist_ok=True)
                with exclusive_lock(run / LOCK, functools.partial(_busy, run)):
                    checkpoint.remove_leftovers(run)
                    dist.barrier()
                    code = train(config, store, run, dist, options)
            except (UserError, OSError) as error:
                if new:
                    _remove_untrained(run)
                if isinstance(error, OSError) and _is_trained(run):
                    raise UserError(
                        f"{run} can't be written ({error.strerror or error}); the last checkpoint there is whole, and "
                        f"--resume --run-dir {run} goes on from it"
                    ) from error
                raise
            if new and options.dry_run:
                _remove_untrained(run)
        return code


def about_data_parallel(wanted: bool, dist: DistributedContext) -> str | None:
    """What to say of `--use-dp`; UserError where several processes were started already."""
    if not wanted:
        return None
    if dist.world > 1:
        raise UserError("--use-dp is for one process with several GPUs; with torchrun leave it out")
    gpus = torch.cuda.device_count() if dist.device.type == "cuda" else 0
    better = "'torchrun --nproc_per_node=N scripts/train.py --config configs/training/distributed.yaml' is faster"
    return f"DataParallel over {gpus} GPUs; {better}" if gpus > 1 else f"DataParallel has {gpus} GPUs here; {better}"


def _busy(run: Path, holder: str) -> str:
    return f"{run} is being trained by {holder}; wait for it, or name another folder"


def _remove_untrained(run: Path) -> None:
    """A new run folder without a checkpoint and without a fault to look into."""
    if not _is_trained(run) and not (run / "faults").is_dir():
        shutil.rmtree(run, ignore_errors=True)


def _is_trained(run: Path) -> bool:
    return (run / "checkpoints" / "last").is_file()


def run_folder(name: str, resume: bool) -> Path:
    """`runs/NAME-TIME`, or the newest of those to go on with."""
    if not resume:
        return RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    begun = sorted(path.parent.parent for path in RUNS.glob(f"{name}-*/checkpoints/last"))
    if not begun:
        raise UserError(f"--resume: no run {RUNS}/{name}-* has a checkpoint yet; --run-dir names another folder")
    return begun[-1]
