"""All that a step changes: the weights and their average, the optimizers' moments, the loss scale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from daydrive import checkpoint, tensors
from daydrive.config import Config
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.models import build_world_model
from daydrive.perceptual import build_perceptual
from daydrive.training.distributed import replicate_model, shard_model
from daydrive.training.optim.ema import Ema
from daydrive.training.optim.param_groups import build_optimizers
from daydrive.training.precision import Precision
from daydrive.training.step import ClipFrames, Objective, StepResult, clips_per_pass, evaluate_batch, frames_of
from daydrive.types import Batch


class Engine:
    """Built from (settings, seed) alone, or brought back to a checkpoint by `load`.

    model: the world model itself; objective: its loss; wrapped: the same as it is called, over the processes or GPUs
    that share the work.
    """

    def __init__(self, config: Config, dist: DistributedContext, data_parallel: bool = False) -> None:
        self.config, self.dist = config, dist
        training = config.training
        torch.manual_seed(training.seed)
        self.model = build_world_model(config).to(dist.device)
        self.sharded = dist.world > 1 and training.strategy == "fsdp"
        self.precision = Precision(training, dist.device)
        if self.sharded:
            if self.precision.scaler.is_enabled():
                raise UserError("training.strategy = fsdp computes in bfloat16 or float32, not in float16; use ddp")
            self.model = shard_model(self.model, dist)
        distance = build_perceptual(config.loss.perceptual, config.loss.perceptual_weights, dist.device)
        self.objective = Objective(self.model, config.loss, distance)
        self.wrapped: nn.Module = self.objective
        if dist.world > 1 and not self.sharded:
            self.wrapped = replicate_model(self.objective, dist)
        elif dist.world == 1 and data_parallel and torch.cuda.device_count() > 1:
            self.wrapped = DataParallel(self.objective)
        self.optimizers = build_optimizers(self.model, config.optimizer)
        self.ema = None if training.ema_decay is None else Ema(self.model, training.ema_decay)

    def evaluate(self, batch: Batch) -> StepResult:
        """Forward, and the loss."""
        return evaluate_batch(self.wrapped, batch, self.precision.autocast)

    def frames_of(self, result: StepResult) -> ClipFrames:
        """Rollout and reconstructions of a result's clips; all processes call it."""
        return frames_of(result, self.model, self.config.training.seed, self.precision.autocast)

    def accumulate(self, batch: Batch, last: bool) -> Iterator[StepResult]:
        """Forward and backward of a batch, in passes that fit the device; `last`: the step has no batch after it."""
        parts = batch.split(clips_per_pass(batch))
        for number, part in enumerate(parts):
            with self._defer_gradient_sync(until_later=not (last and number == len(parts) - 1)):
                result = self.evaluate(part)
                self.precision.backward(result.loss)
            yield result

    def clip_gradients(self) -> float:
        """Scale the gradients of all parameters to `max_grad_norm` together; their norm before, of all processes."""
        self.precision.unscale(self.optimizers)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.max_grad_norm)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def update(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
        self.precision.close_step(overflowed=False)
        if self.ema is not None:
            self.ema.update(self.model)
        self.zero_grad()

    def skip(self) -> None:
        """Leave everything as it is but the loss scale, after an overflow."""
        self.precision.close_step(overflowed=True)
        self.zero_grad()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def ema_weights(self) -> AbstractContextManager[None]:
        """The weights to validate and export, while this lasts: their average, where one is kept."""
        return nullcontext() if self.ema is None else self.ema.in_place_of(self.model)

    def contents(self) -> checkpoint.Contents:
        own = self.model.state_dict()
        moments = tensors.moments(self.optimizers, self.model)
        if self.ema is None:
            return checkpoint.Contents(own, None, moments)
        return checkpoint.Contents(own | self.ema.average, own, moments)

    def state(self) -> dict[str, Any]:
        """What is no tensor, plain JSON."""
        return {**self.precision.state(), "ema_updates": 0 if self.ema is None else self.ema.updates}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        """Bring everything back to where a checkpoint left it; raises UserError for another model's."""
        averaged = (folder / checkpoint.TRAINED).is_file()
        checkpoint.load_weights(self.model, folder, checkpoint.TRAINED if averaged else checkpoint.WEIGHTS)
        if self.ema is not None:
            file = folder / checkpoint.WEIGHTS
            weights = checkpoint.read_weights(self.model, folder)
            buffers = dict(self.model.named_buffers())
            tensors.fill(self.ema.average, {n: w for n, w in weights.items() if n not in buffers}, file)
            self.ema.updates = state["ema_updates"]
        checkpoint.load_moments(self.optimizers, self.model, folder)
        self.precision.load(state)

    def _defer_gradient_sync(self, until_later: bool) -> AbstractContextManager[object]:
        """Don't exchange gradients with other processes before the last pass of a step."""
        if self.sharded:
            self.model.set_requires_gradient_sync(not until_later)  # type: ignore[operator]
        elif until_later and isinstance(self.wrapped, DistributedDataParallel):
            return self.wrapped.no_sync()
        return nullcontext()
