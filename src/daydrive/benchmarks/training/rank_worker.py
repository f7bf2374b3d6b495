"""One of the processes of `scaling.two_processes`: python -m daydrive.benchmarks.training.rank_worker TASK ANSWER."""

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


def main(task: Path, answer: Path) -> None:
    given = read_json(task, "task")
    config = parse_config(given["config"])
    with training_processes(config.training, torch.device(given["device"])) as dist:
        together = _Training(config, dist, given["frames"])
        together.run(WARM_UP)
        alone = _Training(config, DistributedContext.single(dist.device), given["frames"]) if dist.is_main else None
        if alone is not None:
            alone.run(WARM_UP)
        seconds: dict[str, list[float]] = {"alone": [], "together": []}
        for _ in range(given["rounds"]):
            dist.barrier()
            if alone is not None:
                seconds["alone"].append(alone.run(given["steps"]))
            dist.barrier()
            seconds["together"].append(dist.max(together.run(given["steps"])))
        if dist.is_main:
            write_json(answer, seconds)


class _Training:
    """Steps on the same random clips."""

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
