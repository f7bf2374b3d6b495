"""A process of `scaling.two_processes`: python -m daydrive.benchmarks.training.rank_worker TASK RESULT."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch

from daydrive.benchmarks.interleaved_timing import seconds_of
from daydrive.config import parse_config
from daydrive.distributed import DistributedContext
from daydrive.files import read_json, write_json
from daydrive.training.distributed import training_processes
from daydrive.training.local_ranks import RandomSteps

WARM_UP = 2


def main(task_file: Path, result_file: Path) -> None:
    task = read_json(task_file, "task")
    config = parse_config(task["config"])
    with training_processes(config.training, torch.device(task["device"])) as dist:
        distributed = RandomSteps(config, dist, task["frames"])
        distributed.run(WARM_UP)
        single = RandomSteps(config, DistributedContext.single(dist.device), task["frames"])
        single.run(WARM_UP)

        def timed(steps: RandomSteps) -> float:
            return seconds_of(functools.partial(steps.run, task["steps"]), dist.device)

        seconds: dict[str, list[float]] = {"alone": [], "apart": [], "together": []}
        for _ in range(task["rounds"]):
            dist.barrier()
            if dist.is_main:
                seconds["alone"].append(timed(single))
            dist.barrier()
            seconds["apart"].append(dist.max(timed(single)))
            dist.barrier()
            seconds["together"].append(dist.max(timed(distributed)))
        if dist.is_main:
            write_json(result_file, seconds)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
