"""A process of `scaling.two_processes`: python -m daydrive.benchmarks.training.rank_worker TASK RESULT."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch

from daydrive.benchmarks.interleaved_timing import seconds_of
from daydrive.config import Config, parse_config
from daydrive.distributed import DistributedContext
from daydrive.files import read_json, write_json
from daydrive.training.distributed import training_processes
from daydrive.training.engine import Engine
from daydrive.types import Batch

WARM_UP = 2


def main(task_file: Path, result_file: Path) -> None:
    task = read_json(task_file, "task")
    config = parse_config(task["config"])
    with training_processes(config.training, torch.device(task["device"])) as dist:
        distributed = _Training(config, dist, task["frames"])
        distributed.run(WARM_UP)
        single = _Training(config, DistributedContext.single(dist.device), task["frames"]) if dist.is_main else None
        if single is not None:
            single.run(WARM_UP)
        seconds: dict[str, list[float]] = {"alone": [], "together": []}
        for _ in range(task["rounds"]):
            dist.barrier()
            if single is not None:
                seconds["alone"].append(single.run(task["steps"]))
            dist.barrier()
            seconds["together"].append(dist.max(distributed.run(task["steps"])))
        if dist.is_main:
            write_json(result_file, seconds)


class _Training:
    """Training steps on one batch of random clips."""

    def __init__(self, config: Config, dist: DistributedContext, frames: int) -> None:
        assert config.model.image_size is not None
        self._engine = Engine(config, dist)
        self._engine.wrapped.train()
        clips = config.training.batch_size
        images = torch.randint(0, 256, (clips, frames, 3, *config.model.image_size), dtype=torch.uint8)
        actions = torch.rand(clips, frames - 1, config.model.action_dim)
        self._batch = Batch(images, actions, weights=torch.full((clips,), 1 / clips)).to(dist.device)

    def run(self, steps: int) -> float:
        return seconds_of(functools.partial(self._steps, steps), self._batch.images.device)

    def _steps(self, count: int) -> None:
        for _ in range(count):
            for _ in self._engine.accumulate(self._batch, last=True):
                pass
            self._engine.clip_gradients()
            self._engine.update()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
