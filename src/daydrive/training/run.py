"""The run folder of a training, and its start from the command line."""

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
from daydrive.files import check_folder, created_parents
from daydrive.training.context import TrainOptions
from daydrive.training.distributed import check_processes, training_processes
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
    """Find the store and the run folder, then train with all processes that were launched; returns the exit code.

    Errors found before the first checkpoint leave no new run folder behind.
    """
    store, store_message = find_store(data_root, config.data)
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": store.resolve()})})
    _, process_message = check_processes(config.training)
    with training_processes(config.training, device) as dist:
        run = run_dir or Path(dist.broadcast(str(run_folder(config_file.stem, options.resume)) if dist.is_main else ""))
        if dist.is_main:
            check_folder(run, "run folder")
            for message in (store_message, process_message, data_parallel_message(options.data_parallel, dist)):
                if message:
                    print(message, flush=True)
        if not dist.is_main:
            dist.barrier()
            return train(config, store, run, dist, options)
        new = not run.exists()
        with created_parents(run):
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
                        f"{run} cannot be written ({error.strerror or error}); its last checkpoint is complete, and "
                        f"--resume --run-dir {run} continues from it"
                    ) from error
                raise
            if new and options.dry_run:
                _remove_untrained(run)
        return code


def data_parallel_message(wanted: bool, dist: DistributedContext) -> str | None:
    """The message about `--use-dp`. Raises UserError where several processes were launched."""
    if not wanted:
        return None
    if dist.world_size > 1:
        raise UserError("--use-dp is for one process with several GPUs; leave it out with torchrun")
    gpus = torch.cuda.device_count() if dist.device.type == "cuda" else 0
    better = "'torchrun --nproc_per_node=N scripts/train.py --config configs/training/distributed.yaml' is faster"
    return f"DataParallel over {gpus} GPUs; {better}" if gpus > 1 else f"DataParallel finds {gpus} GPUs; {better}"


def _busy(run: Path, holder: str) -> str:
    return f"{run} is in use by {holder}; wait until it ends, or choose another folder"


def _remove_untrained(run: Path) -> None:
    """Remove a new run folder that has neither a checkpoint nor the record of a failed step."""
    if not _is_trained(run) and not (run / "faults").is_dir():
        shutil.rmtree(run, ignore_errors=True)


def _is_trained(run: Path) -> bool:
    return (run / "checkpoints" / "last").is_file()


def run_folder(name: str, resume: bool) -> Path:
    """`runs/NAME-TIME`, or with `resume` the newest such run that has a checkpoint."""
    if not resume:
        return RUNS / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    resumable = sorted(path.parent.parent for path in RUNS.glob(f"{name}-*/checkpoints/last"))
    if not resumable:
        raise UserError(f"--resume: no run {RUNS}/{name}-* has a checkpoint; --run-dir names another folder")
    return resumable[-1]
