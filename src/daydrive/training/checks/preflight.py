"""Checks before the first step: whether the training can run to its end on this machine, and warnings for the user."""

from __future__ import annotations

import dataclasses
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from daydrive.config import Config
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.processor import processors
from daydrive.training.checks import memory, static_checks
from daydrive.training.checks.static_checks import Check, format_checks
from daydrive.training.logging.wandb_access import check_wandb
from daydrive.training.optim.ema import local
from daydrive.training.optim.schedule import unroll_steps
from daydrive.training.step import clips_per_pass
from daydrive.types import Batch

__all__ = ["Check", "format_checks", "preflight"]

AMPLE_DISK = 50 * 2**30


class Result(Protocol):
    """loss: scalar. parts: its components by name, (B,) per clip."""

    @property
    def loss(self) -> Tensor: ...
    @property
    def parts(self) -> dict[str, Tensor]: ...


def preflight(
    config: Config,
    clips: ClipIndex,
    validation_clips: ClipIndex,
    run: Path,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    batch: Batch,
    run_step: Callable[[Batch], Result],
    total_steps: int,
    steps_per_epoch: float,
    device: torch.device,
    resumed: bool,
    allow_fatal_findings: bool = False,
) -> list[Check]:
    """Check data, shapes, disk, W&B and machine, then run a complete forward and backward pass and discard its results.

    clips, validation_clips: those of the training. batch: its first batch. run_step: batch on the device → loss, with
    everything that a step does before the backward pass. resumed: the run has checkpoints, so the checks of its data
    and schedule are left out. allow_fatal_findings: accept a store with errors that `daydrive data doctor` calls
    fatal. Every process has to call it, because the pass is collective. Weights, optimizer state, gradients and
    random states are unchanged afterwards. Raises UserError for what would end the training.
    """
    rank, world_size = _rank_and_world_size()
    store = clips.store
    checks = [_check_data(clips, validation_clips, batch), _check_shapes(config, store, batch)]
    checks.append(check_disk(config, run, model, optimizers))
    checks += static_checks.check_size(config, store)
    checks += static_checks.check_store_quality(store, allow_fatal_findings)
    if config.logging.use_wandb and rank == 0:
        checks.append(Check("wandb", "ok", check_wandb(config.logging.wandb_mode)))
    longest = _longest_batch(batch, config, store, total_steps)
    checks += _check_step(config, model, optimizers, longest, run_step, device)
    checks += static_checks.check_gpu(device)
    checks += static_checks.check_machine(config, device, processors())
    checks += static_checks.check_shared_memory(config, longest.images.nbytes)
    if not resumed:
        counts = {"train": len(clips), "val": len(validation_clips)}
        drives = {split: [drive.name for drive in store.split(split)] for split in counts}
        checks += static_checks.check_data(config, counts, drives, world_size)
        checks += static_checks.check_plan(config, total_steps, steps_per_epoch)
    return checks


def _rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _check_data(clips: ClipIndex, validation_clips: ClipIndex, batch: Batch) -> Check:
    """Read validation clips like training clips, and check that all actions are finite."""
    store = clips.store
    first = [validation_clips.clip(i) for i in range(min(4, len(validation_clips)))]
    for read in (batch, read_clips(store, first)):
        bad = (~local(read.actions).isfinite()).flatten(1).any(dim=1).nonzero()
        if len(bad):
            where = f", drive '{read.clips[int(bad[0])].drive}'" if read.clips else ""
            raise UserError(
                f"the store {store.path} has actions that are not finite{where}; prepare it again with "
                f"--overwrite from a source without such values"
            )
    counts = " and ".join(
        f"{len(index)} {index.split} clips of {len(store.split(index.split))} drives"
        for index in (clips, validation_clips)
    )
    return Check("data", "ok", f"{store.path}: {counts}")


def _check_shapes(config: Config, store: Store, batch: Batch) -> Check:
    height, width = store.image_size
    if config.model.image_size is not None and tuple(config.model.image_size) != store.image_size:
        raise UserError(
            f"model.image_size = {list(config.model.image_size)}, but the store {store.path} has images of "
            f"{[height, width]}; leave the key out to use the store's size"
        )
    clips, frames = batch.images.shape[:2]
    expected = (clips, frames, 3, height, width), (clips, frames - 1, config.model.action_dim)
    given = tuple(batch.images.shape), tuple(batch.actions.shape)
    if given != expected:
        raise UserError(
            f"the store {store.path} gives images {given[0]} and actions {given[1]}, but the model expects "
            f"{expected[0]} and, with model.action_dim, {expected[1]}"
        )
    return Check("shapes", "ok", f"images of {height}x{width}, actions of {config.model.action_dim} values")


def check_disk(config: Config, run: Path, model: nn.Module, optimizers: Sequence[Optimizer]) -> Check:
    """Check that the run's file system can hold its checkpoints. Raises UserError with the setting to change where it
    cannot."""
    copies = 1 + (config.training.ema_decay is not None)
    one = copies * memory.weight_bytes(model, full=True) + memory.moment_bytes(optimizers, full=True)
    keep = config.logging.keep_checkpoints
    existing = sum(file.stat().st_size for file in (run / "checkpoints").rglob("*") if file.is_file())
    needed = max(one, (keep + 2) * one - existing)
    folder = next(path for path in (run, *run.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    message = (
        f"checkpoints of {memory.size_text(one)} need up to {memory.size_text(needed)}, and "
        f"{memory.size_text(free)} are free under {run}"
    )
    if needed > free:
        fewer = f"lower logging.keep_checkpoints (now {keep}), " if keep > 1 else ""
        raise UserError(f"{message}; {fewer}free disk space, or choose another --run-dir")
    tight = free < AMPLE_DISK and 2 * needed > free
    return Check("disk", "warning" if tight else "ok", message + (": logs and other runs may fill it" if tight else ""))


def longest_clip(config: Config, total_steps: int) -> int:
    """Length in frames of the longest clips of any step: the context and the longest unroll."""
    training = config.training
    full_unroll = config.data.sequence_length - training.context_frames
    starts = {0, *(math.ceil(phase.start * total_steps) for phase in training.unroll)}
    return training.context_frames + max(unroll_steps(s, total_steps, training.unroll, full_unroll) for s in starts)


def _longest_batch(batch: Batch, config: Config, store: Store, total_steps: int) -> Batch:
    """The same clips, in the length of the training's longest ones."""
    length = longest_clip(config, total_steps)
    if not batch.clips or batch.images.shape[1] == length:
        return batch
    read = read_clips(store, [dataclasses.replace(clip, length=length) for clip in batch.clips])
    return dataclasses.replace(read, samples=batch.samples, weights=batch.weights)


def _check_step(
    config: Config,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    batch: Batch,
    run_step: Callable[[Batch], Result],
    device: torch.device,
) -> Iterator[Check]:
    """Run one pass; check its memory and that its results are finite.

    Weights and their moving average are already allocated, so only what a step adds is counted.
    """
    batch = batch.to(device)
    first = batch.split(clips_per_pass(batch))[0]
    clips, frames = first.images.shape[:2]
    accumulates = config.training.gradient_accumulation > 1 or clips < len(batch.images)
    weights = memory.weight_bytes(model)
    moments_to_allocate = memory.moment_bytes(optimizers, missing=True)
    available = memory.available_memory(device)
    started = time.perf_counter()
    with _state_restored(model, device):
        try:
            with memory.limited_memory(available, device), memory.PeakMemory(device) as peak:
                result = run_step(first)
                result.loss.backward()
                value = result.loss.item()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            advice = memory.memory_advice(None, available, config, clips=clips, device=device.type)
            raise UserError(advice) from None
        seconds = time.perf_counter() - started
        _check_finite(value, result.parts, first, model)
        del result
    yield Check(
        "step", "ok", f"forward and backward pass of {clips} clips of {frames} frames in {seconds:.1f} s, finite"
    )

    needed = peak.growth + moments_to_allocate + weights * accumulates  # gradients exist during later forward passes
    if needed > available:
        fixed = min(needed, weights + moments_to_allocate)
        raise UserError(memory.memory_advice(needed, available, config, fixed, clips, device.type))
    message = f"a step needs {memory.size_text(needed)}, {memory.size_text(available)} are free"
    if needed > memory.USABLE_FRACTION * available:
        yield Check("memory", "warning", f"{message}: little is left for anything else")
    else:
        yield Check("memory", "ok", message)


def _check_finite(loss: float, parts: dict[str, Tensor], batch: Batch, model: nn.Module) -> None:
    """Raise UserError with the loss component and the clip, or the weight whose gradient is not finite."""
    if not math.isfinite(loss):
        bad = {name: (~part.isfinite()).nonzero() for name, part in parts.items() if not part.isfinite().all()}
        name = next((name for name in bad if name != "loss"), "loss")
        where = ""
        if bad and batch.clips:
            clip = batch.clips[int(bad[name][0])] if bad[name].numel() else batch.clips[0]
            where = f" for the clip at row {clip.start} (drive '{clip.drive}')"
        raise UserError(
            f"the first step's loss is {loss} ({name}{where}); check that drive's actions and images, and try "
            f"training.use_amp=false"
        )
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not local(parameter.grad).isfinite().all():
            raise UserError(f"the first step's gradient of '{name}' is not finite; try training.use_amp=false")


@contextmanager
def _state_restored(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Training mode without gradients; afterwards mode, gradients, buffers and random states are restored."""
    parameters = list(model.parameters())
    gradients = [parameter.grad for parameter in parameters]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for parameter in parameters:
                parameter.grad = None
            model.train()
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
