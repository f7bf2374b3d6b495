"""The training state: weights and their moving average, optimizers, mixed precision, compilation."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DataParallel, DistributedDataParallel

from daydrive import checkpoint, tensors
from daydrive.config import Config, TrainingConfig
from daydrive.devices import has_bfloat16
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.models import WorldModel, build_world_model
from daydrive.perceptual import build_perceptual
from daydrive.processor import bfloat16_feature
from daydrive.training.distributed import replicate_model, shard_model
from daydrive.training.optim.ema import Ema
from daydrive.training.optim.param_groups import build_optimizers
from daydrive.training.step import ClipFrames, Objective, StepResult, clips_per_pass, evaluate_batch, frames_of
from daydrive.types import Batch


class Engine:
    """Model, loss, optimizers and EMA of a training, built from the settings and the seed alone; `load` restores a
    checkpoint.

    model: the world model. objective: its loss as a module. wrapped: the objective inside DDP or DataParallel where
    they are used.
    """

    def __init__(self, config: Config, dist: DistributedContext, data_parallel: bool = False) -> None:
        self.config, self.dist = config, dist
        training = config.training
        torch.manual_seed(training.seed)
        self.model = build_world_model(config).to(dist.device)
        self.sharded = dist.world_size > 1 and training.strategy == "fsdp"
        self.precision = Precision(training, dist.device)
        if self.sharded:
            if self.precision.scaler.is_enabled():
                raise UserError("training.strategy = fsdp computes in bfloat16 or float32, not in float16; use ddp")
            self.model = shard_model(self.model, dist)
        distance = build_perceptual(config.loss.perceptual, config.loss.perceptual_weights, dist.device)
        self.objective = Objective(self.model, config.loss, distance)
        self.wrapped: nn.Module = self.objective
        if dist.world_size > 1 and not self.sharded:
            self.wrapped = replicate_model(self.objective, dist)
        elif dist.world_size == 1 and data_parallel and torch.cuda.device_count() > 1:
            self.wrapped = DataParallel(self.objective)
        self.optimizers = build_optimizers(self.model, config.optimizer)
        self.ema = None if training.ema_decay is None else Ema(self.model, training.ema_decay)

    def evaluate(self, batch: Batch) -> StepResult:
        """Forward pass and loss of a batch."""
        return evaluate_batch(self.wrapped, batch, self.precision.autocast)

    def frames_of(self, result: StepResult) -> ClipFrames:
        """Predicted and reconstructed frames of the clips of a result. Every process has to call it."""
        return frames_of(result, self.model, self.config.training.seed, self.precision.autocast)

    def accumulate(self, batch: Batch, last: bool) -> Iterator[StepResult]:
        """Forward and backward pass of a batch, in micro-batches that fit the device. last: the step has no further
        batch."""
        micro_batches = batch.split(clips_per_pass(batch))
        for number, micro_batch in enumerate(micro_batches):
            with self.defer_gradient_sync(defer=not (last and number == len(micro_batches) - 1)):
                result = self.evaluate(micro_batch)
                self.precision.backward(result.loss)
            yield result

    def backward(self, batch: Batch, last: bool = True) -> StepResult:
        """`accumulate` to the end; returns the result of the last micro-batch."""
        return deque(self.accumulate(batch, last), maxlen=1).pop()

    def clip_gradients(self) -> float:
        """Clip the norm of all gradients together to `max_grad_norm`; return the norm before clipping, over all
        processes."""
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
        """Skip the update after an overflow; only the loss scale changes."""
        self.precision.close_step(overflowed=True)
        self.zero_grad()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def ema_weights(self) -> AbstractContextManager[None]:
        """A context in which the model has the weights to validate and export: the moving average, where there is
        one."""
        return nullcontext() if self.ema is None else self.ema.applied_to(self.model)

    def contents(self) -> checkpoint.Contents:
        own = self.model.state_dict()
        moments = tensors.moments(self.optimizers, self.model)
        if self.ema is None:
            return checkpoint.Contents(own, None, moments)
        return checkpoint.Contents(own | self.ema.average, own, moments)

    def state(self) -> dict[str, Any]:
        """The part of the state that is not tensors, as plain JSON."""
        return {**self.precision.state(), "ema_updates": 0 if self.ema is None else self.ema.updates}

    def load(self, folder: Path, state: dict[str, Any]) -> None:
        """Restore the state that a checkpoint holds. Raises UserError where the checkpoint belongs to another model."""
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

    def defer_gradient_sync(self, defer: bool) -> AbstractContextManager[object]:
        """Synchronize gradients between processes in the last pass of a step only."""
        if self.sharded:
            self.model.set_requires_gradient_sync(not defer)  # type: ignore[operator]
        elif defer and isinstance(self.wrapped, DistributedDataParallel):
            return self.wrapped.no_sync()
        return nullcontext()


class Precision:
    """Autocast and loss scaling. dtype: of autocast, None without. float16 needs a scaled loss and skips steps that
    overflow."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.device = device
        self.dtype = mixed_dtype(config, device)
        self.skipped_steps = 0
        self.scaler = GradScaler(device.type, enabled=self.dtype == torch.float16)

    def description(self) -> str:
        """A sentence about the number format of the computation."""
        name = "float32" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        if self.device.type == "cuda":
            return f"computing in {name}"
        feature = bfloat16_feature()
        reason = f"has {feature}" if feature else "does not multiply bfloat16 itself"
        return f"computing in {name}; the processor {reason}"

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def unscale(self, optimizers: list[torch.optim.Optimizer]) -> None:
        if self.scaler.is_enabled():
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)

    def close_step(self, overflowed: bool) -> None:
        """Lower the loss scale after an overflow; raise it after many steps without one."""
        if self.scaler.is_enabled():
            self.skipped_steps += overflowed
            self.scaler.update()

    @property
    def may_overflow(self) -> bool:
        """Whether a gradient that is not finite may be an overflow that a lower loss scale avoids."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def metrics(self) -> dict[str, float]:
        """Skipped steps and loss scale; empty except with float16."""
        if not self.scaler.is_enabled():
            return {}
        return {"train/skipped_steps": float(self.skipped_steps), "train/loss_scale": self.scaler.get_scale()}

    def state(self) -> dict[str, object]:
        return {"skipped_steps": self.skipped_steps, "scaler": self.scaler.state_dict()}

    def load(self, state: dict[str, object]) -> None:
        skipped, scaler = state["skipped_steps"], state["scaler"]
        assert isinstance(skipped, int) and isinstance(scaler, dict)
        self.skipped_steps = skipped
        if self.scaler.is_enabled() and scaler:
            self.scaler.load_state_dict(scaler)


def mixed_dtype(config: TrainingConfig, device: torch.device) -> torch.dtype | None:
    """The dtype of autocast: bfloat16 where the device supports it, else float16 on a GPU, unless `amp_dtype` is set.

    None (float32 only) without `use_amp`, and on a CPU without bfloat16 support.
    """
    if not config.use_amp:
        return None
    if config.amp_dtype != "auto":
        return torch.bfloat16 if config.amp_dtype == "bfloat16" else torch.float16
    if has_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else None


def compile_units(model: WorldModel, warmup: Callable[[], None]) -> str:
    """Compile the model's `parallel_units`, run `warmup` once, and return a sentence with the time it took. If
    compilation fails, undo it and return the reason.

    Only these units are compiled: `forward` as a whole contains the rollout loop and would be compiled again for
    every length. Shapes are fixed (`dynamic=False`), so that the compiled code does not depend on the shapes seen
    before.
    """
    started = time.perf_counter()
    calls = [(unit.module, method) for unit in model.parallel_units() for method in unit.methods]
    for module, method in calls:
        setattr(module, method, torch.compile(getattr(module, method), dynamic=False))
    try:
        warmup()
    except Exception as error:  # compilers fail in many ways; training works without
        for module, method in calls:
            delattr(module, method)
        torch.compiler.reset()
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return f"torch.compile does not work here ({reason}); training continues without it"
    return f"torch.compile took {time.perf_counter() - started:.0f} s"
