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
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext, process_group
from daydrive.errors import UserError
from daydrive.files import check_folder, created_parents
from daydrive.local_processes import AUTO, count_processes, local_processes, single_process
from daydrive.training.context import TrainOptions
from daydrive.training.distributed import check_processes, training_processes
from daydrive.training.local_ranks import faster_together, share
from daydrive.training.resume import prepare_run
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
    processes: str = "1",
) -> int:
    """Find the store and the run folder, then train with all processes that were launched, or with `processes` of this
    machine (see `count_processes`); returns the exit code.

    Errors found before the first checkpoint leave no new run folder behind.
    """
    store, store_message = find_store(data_root, config.data)
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": store.resolve()})})
    single = options.dry_run or options.data_parallel
    count = 1 if single else count_processes(processes, device, config.training.batch_size)
    if count == 1:
        _, process_message = check_processes(config.training)
        with training_processes(config.training, device) as dist:
            name = str(run_folder(config_file.stem, options.resume)) if dist.is_main and run_dir is None else ""
            run = run_dir or Path(dist.broadcast(name))
            return _train(config, store, run, dist, options, [store_message, process_message])
    run = run_dir or run_folder(config_file.stem, options.resume)
    check_folder(run, "run folder")
    config, _ = prepare_run(config, Store.open(store), run, options.resume, options.allow_change, world=1)
    arguments = (config, count, store, run, device, options, processes == AUTO, [store_message])
    with local_processes(count, _train_together, *arguments):
        return _train_together(*arguments)


def _train_together(
    config: Config,
    count: int,
    store: Path,
    run: Path,
    device: torch.device,
    options: TrainOptions,
    measured: bool,
    messages: list[str | None],
) -> int:
    """One of `count` local processes. measured: continue in rank 0 only, if that is faster."""
    own = share(config, count)
    with process_group(device) as dist:
        together, message = True, f"training in {count} processes, {torch.get_num_threads()} threads each"
        if measured:
            together, message = faster_together(own, dist)
        if together:
            code = _train(own, store, run, dist, options, [*messages, message])
            dist.barrier()
            return code
        if not dist.is_main:
            return 0
    with single_process():
        return _train(config, store, run, DistributedContext.single(device), options, [*messages, message])


def _train(
    config: Config, store: Path, run: Path, dist: DistributedContext, options: TrainOptions, messages: list[str | None]
) -> int:
    """Train with the processes of `dist`; rank 0 creates and locks the run folder and prints the messages."""
    if dist.is_main:
        check_folder(run, "run folder")
    parallel_message = data_parallel_message(options.data_parallel, dist)
    if dist.is_main:
        for message in (*messages, parallel_message):
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
