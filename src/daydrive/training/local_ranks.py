"""Training in several processes of this machine: the settings of each, and whether they are faster than one process."""

from __future__ import annotations

import time

import torch

from daydrive.config import Config
from daydrive.distributed import DistributedContext
from daydrive.local_processes import threads_of_this_process, usable_cores
from daydrive.training.engine import Engine
from daydrive.training.step import PIXELS_PER_PASS
from daydrive.types import Batch

PREDICTED = 2
"""Predicted frames of the clips that are timed."""
QUICK_SECONDS = 3.0
"""Steps shorter than this are timed twice."""


def share(config: Config, count: int) -> Config:
    """The settings of one of `count` processes: together they take the clips of a step of `config`."""
    training = config.training
    fitted = {"distributed": True, "batch_size": training.batch_size // count}
    return config.model_copy(update={"training": training.model_copy(update=fitted)})


class RandomSteps:
    """Training steps on one batch of random clips. frames: length of a clip."""

    def __init__(self, config: Config, dist: DistributedContext, frames: int) -> None:
        assert config.model.image_size is not None
        self._engine = Engine(config, dist)
        self._engine.wrapped.train()
        clips = config.training.batch_size
        images = torch.randint(0, 256, (clips, frames, 3, *config.model.image_size), dtype=torch.uint8)
        actions = torch.rand(clips, frames - 1, config.model.action_dim)
        self._batch = Batch(images, actions, weights=torch.full((clips,), 1 / clips)).to(dist.device)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._engine.backward(self._batch)
            self._engine.clip_gradients()
            self._engine.update()

    def seconds(self) -> float:
        """The time of a step, without the first one."""
        self.run(1)
        times = [self._timed()]
        if times[0] < QUICK_SECONDS:
            times.append(self._timed())
        return min(times)

    def _timed(self) -> float:
        started = time.perf_counter()
        self.run(1)
        return time.perf_counter() - started


def faster_together(config: Config, dist: DistributedContext) -> tuple[bool, str]:
    """Whether the processes of `dist` train faster than one of them with all cores as threads, and a sentence with the
    measured times. Every process has to call it.

    config: of one of the processes, with the image size of the store. Both take the same number of short clips.
    """
    assert config.model.image_size is not None
    height, width = config.model.image_size
    frames = config.training.context_frames + PREDICTED
    clips = max(1, min(config.training.batch_size, PIXELS_PER_PASS // dist.world_size // (frames * height * width)))
    together = dist.max(RandomSteps(_with_clips(config, clips), dist, frames).seconds())
    in_one = 0.0
    cores = usable_cores()
    if dist.is_main:
        with threads_of_this_process(cores):
            single = DistributedContext.single(dist.device)
            in_one = RandomSteps(_with_clips(config, clips * dist.world_size), single, frames).seconds()
    in_one = dist.max(in_one)
    measured = (
        f"{clips * dist.world_size} short clips take {together:.2f} s in {dist.world_size} processes "
        f"and {in_one:.2f} s in one with {cores} threads"
    )
    if together <= in_one:
        return True, f"training in {dist.world_size} processes: {measured}"
    return False, f"training in one process: {measured}"


def _with_clips(config: Config, clips: int) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"batch_size": clips})})
