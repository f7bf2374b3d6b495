"""A config and the training to measure: the full batch on a GPU, a few clips on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from daydrive.benchmarks.interleaved_timing import Effort
from daydrive.config import Config
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.training.context import TrainingContext, TrainOptions, build_context
from daydrive.training.engine import Engine
from daydrive.types import Batch

PIXELS = 700_000
"""Pixels of a batch on a CPU: one clip of ten frames at 256 px, which takes seconds."""


@dataclass(frozen=True)
class Workload:
    """config: as given; setup: what is measured, see `share`; folder: for temporary files."""

    name: str
    config: Config
    setup: TrainingContext
    folder: Path
    effort: Effort

    @property
    def device(self) -> torch.device:
        return self.setup.dist.device

    @property
    def share(self) -> float:
        """Clips of a measured step over clips of a step in the config."""
        return self.setup.resume_state.clips_per_step / _clips(self.config)

    @property
    def engine(self) -> Engine:
        return self.setup.engine

    @cached_property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.engine.model.parameters())

    @cached_property
    def _batch(self) -> Batch:
        return self.setup.longest_batch()

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """Number of frames of the shortest and of the longest clips in training."""
        found = {self.setup.length_at(step) for step in range(self.setup.total_steps)}
        return min(found), max(found)

    def batches(self, frames: int) -> list[Batch]:
        """The micro-batches of a step, on the device; always the same clips."""
        count = self.setup.config.training.gradient_accumulation
        size = len(self._batch.images)
        weights = torch.full((size,), 1 / (size * count), device=self.device)
        batch = Batch(self._batch.images[:, :frames], self._batch.actions[:, : frames - 1], weights=weights)
        return [batch] * count

    def step(self, batches: list[Batch], engine: Engine | None = None) -> None:
        """A step as in the trainer, without loading."""
        engine = engine or self.engine
        self.gradients(batches, engine)
        engine.clip_gradients()
        engine.update()

    def gradients(self, batches: list[Batch], engine: Engine | None = None) -> None:
        engine = engine or self.engine
        engine.wrapped.train()
        for batch in batches:
            engine.backward(batch, last=batch is batches[-1])

    def with_settings(self, **training: Any) -> Engine:
        """A new engine with some settings of `training` changed."""
        config = self.setup.config
        config = config.model_copy(update={"training": config.training.model_copy(update=training)})
        return Engine(config, DistributedContext.single(self.device))

    def describe(self) -> dict[str, Any]:
        training = self.setup.config.training
        return {
            "parameters": self.parameters,
            "image_size": list(self.setup.store.image_size),
            "clips": training.batch_size,
            "gradient_accumulation": training.gradient_accumulation,
            "clips_of_a_step_in_the_config": _clips(self.config),
            "frames": list(self.lengths),
            "optimizer": self.config.optimizer.type,
            "precision": str(self.engine.precision.dtype or torch.float32),
        }


def build_workload(
    name: str, config: Config, store: Path | None, folder: Path, effort: Effort, device: torch.device
) -> Workload:
    """store: default: generated road drives at the model's native image size."""
    if store is None:
        size = config.model.image_size or config.model.native_image_size
        path = folder / f"road-{size[0]}x{size[1]}"
        store = prepare("road", None, path, size, drives=effort.drives, frames=effort.frames)
    fitted = _fitted(config, Store.open(store).image_size, device)
    setup = build_context(fitted, store, folder / name, DistributedContext.single(device), TrainOptions())
    return Workload(name, config, setup, folder, effort)


def _fitted(config: Config, size: tuple[int, int], device: torch.device) -> Config:
    """The config with the batch size reduced to PIXELS on a CPU, at least one clip, without accumulation."""
    if device.type != "cpu":
        return config
    clips = max(1, PIXELS // (config.data.sequence_length * size[0] * size[1]))
    fewer = {"batch_size": min(config.training.batch_size, clips), "gradient_accumulation": 1}
    return config.model_copy(update={"training": config.training.model_copy(update=fewer)})


def _clips(config: Config) -> int:
    return config.training.batch_size * config.training.gradient_accumulation
