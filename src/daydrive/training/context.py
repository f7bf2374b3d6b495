"""The parts of a training, built from its settings, and its input batches."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from daydrive import checkpoint
from daydrive.config import Config, DataConfig, TrainingConfig
from daydrive.data.sampling.augment import DrivingAugmentation
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.lanes import LaneOrder
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.sampling.sample_order import SampleOrder, build_sample_order
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.errors import UserError
from daydrive.training.checks.preflight import preflight
from daydrive.training.checks.static_checks import Check
from daydrive.training.engine import Engine, compile_units
from daydrive.training.optim.schedule import unroll_steps
from daydrive.training.resume import ResumeState, prepare_run
from daydrive.training.self_rollout.runner import SelfRollout
from daydrive.training.step import StepResult
from daydrive.training.validation import Validation
from daydrive.types import Batch

CRITIC_COST = 2.3
"""How many times as long the critic of self-rollouts makes a step (measured on a CPU)."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of `daydrive train`.

    resume: continue from the last checkpoint of the run. allow_change: resume with changed settings. data_parallel:
    DataParallel over the GPUs of this process. dry_run: run the checks only. allow_fatal_findings: train on a store
    in which `daydrive data doctor` finds fatal errors.
    """

    resume: bool = False
    allow_change: bool = False
    data_parallel: bool = False
    dry_run: bool = False
    allow_fatal_findings: bool = False


@dataclass(frozen=True)
class TrainingContext:
    """Everything that a training consists of.

    config: fitted to the store and the number of processes. clips, validation_clips: of the splits 'train' and 'val'.
    total_steps: of the complete training, including the steps before a resume.
    """

    config: Config
    dist: DistributedContext
    store: Store
    resume_state: ResumeState
    clips: ClipIndex
    validation_clips: ClipIndex
    total_steps: int
    order: SampleOrder | LaneOrder
    augment: DrivingAugmentation
    engine: Engine
    validation: Validation
    self_rollout: SelfRollout | None = None
    allow_fatal_findings: bool = False

    @property
    def steps_per_epoch(self) -> float:
        return len(self.clips) / self.resume_state.clips_per_step

    def among_self_rollouts(self, step: int) -> bool:
        """Whether self-rollouts have begun by `step` (1-based)."""
        return isinstance(self.order, LaneOrder) and step > self.resume_state.step_of(self.order.first_sample)

    def length_at(self, step: int) -> int:
        """Length in frames of the clips of `step` (0-based): context and unroll."""
        return self._clip_length()(self.resume_state.sample_of(step))

    def cost_at(self, step: int) -> float:
        """Relative duration of `step` (0-based), in predicted frames. A frame of the context takes half of one; one
        without gradient a third, and only half of the lanes have them."""
        training, sample = self.config.training, self.resume_state.sample_of(step)
        lanes = training.self_rollout
        if lanes is None or not isinstance(self.order, LaneOrder) or not self.order.has_lanes(sample):
            return self.length_at(step) - training.context_frames / 2
        frames = training.context_frames / 2 + lanes.samples * (lanes.steps + lanes.free_steps / 6)
        return frames if lanes.critic is None else CRITIC_COST * frames

    def prefetcher(self) -> DevicePrefetcher:
        """The batches of the training on the device, from the first sample on."""
        loader = self._loader(num_workers=self.config.data.num_workers, clip_length=self._clip_length())
        return DevicePrefetcher(loader, self.dist.device, self.config.training.gradient_accumulation)

    def longest_batch(self) -> Batch:
        """The first batch, with clips of the full `data.sequence_length`."""
        return self.augment(next(iter(self._loader())).to(self.dist.device))

    def accumulate(self, batch: Batch, last: bool) -> Iterator[StepResult]:
        """Forward and backward pass of an augmented batch, on new clips or on lanes; see `Engine.accumulate`."""
        lanes = self.lanes(batch)
        return (lanes or self.engine).accumulate(batch, last)

    def lanes(self, batch: Batch) -> SelfRollout | None:
        """The self-rollouts if the batch belongs to them."""
        return self.self_rollout if self.self_rollout is not None and self.self_rollout.applies_to(batch) else None

    def augmented(self, batch: Batch) -> Batch:
        lanes = self.lanes(batch)
        if lanes is None:
            return self.augment(batch)
        return replace(self.augment(lanes.with_origins(batch)), samples=batch.samples)

    def check(self, run: Path) -> tuple[list[Check], list[str]]:
        """Compile the model where the settings ask for it and run the preflight checks; returns the checks and messages
        to print."""
        engine, batch = self.engine, self.longest_batch()
        messages = list(self.resume_state.changes)
        if self.config.training.compile:
            messages.append(compile_units(engine.model, functools.partial(_warmup, engine, batch)))
        checks = preflight(
            self.config, self.clips, self.validation_clips, run, engine.model, engine.optimizers, batch,
            engine.evaluate, self.total_steps,
            self.steps_per_epoch, self.dist.device, self.resume_state.folder is not None, self.allow_fatal_findings,
        )  # fmt: skip
        return [Check("precision", "ok", engine.precision.description()), *checks], messages

    def _clip_length(self) -> Callable[[int], int]:
        """Picklable, for the loader's workers."""
        lanes = self.order if isinstance(self.order, LaneOrder) else None
        return functools.partial(
            clip_length, config=self.config, resume_state=self.resume_state, total_steps=self.total_steps, lanes=lanes
        )

    def _loader(self, **options: object) -> ClipLoader:
        training, data = self.config.training, self.config.data
        return ClipLoader(
            self.clips,
            batch_size=training.batch_size,
            pin_memory=data.pin_memory,
            order=self.order,
            first_sample=self.resume_state.sample,
            accumulation=training.gradient_accumulation,
            rank=self.dist.rank,
            world=self.dist.world_size,
            **options,  # type: ignore[arg-type]
        )


def build_context(
    config: Config, store_path: Path, run: Path, dist: DistributedContext, options: TrainOptions
) -> TrainingContext:
    """Build a training from its settings, or restore it from the run's last checkpoint. Raises UserError for invalid
    input."""
    store = Store.open(store_path)
    config, resume_state = prepare_run(config, store, run, options.resume, options.allow_change, dist.world_size)
    training, data = config.training, config.data
    clips, validation_clips = (clip_index(store, split, data) for split in ("train", "val"))
    steps = total_steps(training, len(clips), resume_state)
    order = _order(build_sample_order(store, clips, data, training.seed), clips, config, resume_state, steps)
    engine = Engine(config, dist, options.data_parallel)
    context = TrainingContext(
        config=config,
        dist=dist,
        store=store,
        resume_state=resume_state,
        clips=clips,
        validation_clips=validation_clips,
        total_steps=steps,
        order=order,
        augment=DrivingAugmentation.from_config(data.augmentation, training.seed),
        engine=engine,
        validation=Validation(validation_clips, clips, config, dist),
        self_rollout=SelfRollout(engine, order) if isinstance(order, LaneOrder) else None,
        allow_fatal_findings=options.allow_fatal_findings,
    )
    if resume_state.folder is not None:
        engine.load(resume_state.folder, resume_state.state)
        if context.self_rollout is not None:
            context.self_rollout.load(checkpoint.read_self_rollout(resume_state.folder))
    return context


def _order(
    base: SampleOrder, clips: ClipIndex, config: Config, resume_state: ResumeState, total_steps: int
) -> SampleOrder | LaneOrder:
    """The order of the training's clips, with lanes where the settings have them. Raises UserError for lanes that do
    not fit the steps."""
    lanes = config.training.self_rollout
    if lanes is None:
        return base
    per_step = resume_state.clips_per_step
    if lanes.lanes % per_step:
        raise UserError(
            f"training.self_rollout.lanes = {lanes.lanes} is not a multiple of the {per_step} clips of a step; set it "
            f"to {max(1, round(lanes.lanes / per_step)) * per_step}"
        )
    if config.training.strategy == "fsdp":
        raise UserError("training.self_rollout does not work with training.strategy = fsdp; use ddp")
    first = resume_state.sample_of(math.ceil(lanes.start * total_steps))
    return LaneOrder(base, clips, lanes, first, per_step)


def clip_index(store: Store, split: str, data: DataConfig) -> ClipIndex:
    """The clips of a split, as the settings define them."""
    return ClipIndex(store, split, data.sequence_length, data.frame_skip, where=data.filter)


def total_steps(training: TrainingConfig, clips: int, resume_state: ResumeState) -> int:
    """Optimizer updates of the complete training: `num_epochs` or `max_steps`, whichever ends first."""
    left = training.num_epochs * clips - resume_state.sample
    by_epochs = max(1, resume_state.step + left // resume_state.clips_per_step)
    return min(by_epochs, training.max_steps or by_epochs)


def clip_length(
    sample: int, config: Config, resume_state: ResumeState, total_steps: int, lanes: LaneOrder | None
) -> int:
    """Length in frames of the clips of the batch that starts at `sample`: the context and the unroll of its step."""
    training = config.training
    if lanes is not None and lanes.has_lanes(sample):
        return training.context_frames + lanes.config.free_steps + lanes.config.steps
    longest = config.data.sequence_length - training.context_frames
    return training.context_frames + unroll_steps(resume_state.step_of(sample), total_steps, training.unroll, longest)


def _warmup(engine: Engine, batch: Batch) -> None:
    engine.wrapped.train()
    for _ in engine.accumulate(batch, last=True):
        break
    engine.zero_grad()


class Source(Protocol):
    def __iter__(self) -> Iterator[Batch]: ...


class DevicePrefetcher:
    """Endless iterator over a loader's batches on the device; on a GPU the next batch is copied during the current
    step.

    accumulation: batches of a step, over which the weights of its clips sum to 1. waited: seconds spent waiting for
    data so far.
    """

    def __init__(self, source: Source, device: torch.device, accumulation: int) -> None:
        self._device = device
        self._accumulation = accumulation
        self._batches = iter(source)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._next: Batch | None = None
        self.waited = 0.0

    def __next__(self) -> Batch:
        started = time.perf_counter()
        batch = self._fetch() if self._next is None else self._next
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            for tensor in (batch.images, batch.actions, batch.weights):
                if tensor is not None:
                    tensor.record_stream(torch.cuda.current_stream(self._device))
            self._next = self._fetch()
        self.waited += time.perf_counter() - started
        return batch

    def _fetch(self) -> Batch:
        batch = next(self._batches)
        weights = batch.weights
        if weights is None:
            count = len(batch.images)
            weights = torch.full((count,), 1.0 / (count * self._accumulation))
        complete = Batch(batch.images, batch.actions, batch.clips, batch.samples, weights)
        if self._stream is None:
            return complete.to(self._device)
        with torch.cuda.stream(self._stream):
            return complete.to(self._device)
