"""What a training consists of, built from its settings."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from daydrive.config import Config, TrainingConfig
from daydrive.data.sampling.augment import DrivingAugmentation
from daydrive.data.sampling.clips import ClipIndex
from daydrive.data.sampling.loader import ClipLoader
from daydrive.data.sampling.sample_order import SampleOrder, build_sample_order
from daydrive.data.store.store import Store
from daydrive.distributed import DistributedContext
from daydrive.training.checks.preflight import preflight
from daydrive.training.checks.static_checks import Check
from daydrive.training.compiled import compile_parts
from daydrive.training.engine import Engine
from daydrive.training.optim.schedule import unroll_steps
from daydrive.training.prefetch import DevicePrefetcher
from daydrive.training.resume import ResumeState, prepare_run
from daydrive.training.validation import Validation
from daydrive.types import Batch


@dataclass(frozen=True)
class TrainOptions:
    """resume: go on where the run ended; allow_change: even with other settings. data_parallel: DataParallel over the
    GPUs of this process. dry_run: check all that is needed, and train nothing. allow_faults: train although the store
    has faults that are fatal."""

    resume: bool = False
    allow_change: bool = False
    data_parallel: bool = False
    dry_run: bool = False
    allow_faults: bool = False


@dataclass(frozen=True)
class TrainingContext:
    """config: fitted to the store and the processes. clips: of the train split; validation_clips: of val;
    total_steps: of the whole training."""

    config: Config
    dist: DistributedContext
    store: Store
    start: ResumeState
    clips: ClipIndex
    validation_clips: ClipIndex
    total_steps: int
    order: SampleOrder
    augment: DrivingAugmentation
    engine: Engine
    validation: Validation
    allow_faults: bool = False

    @property
    def steps_per_epoch(self) -> float:
        return len(self.clips) / self.start.clips_per_step

    def length_at(self, step: int) -> int:
        """Frames of the clips of `step` (0-based): the context and its unroll."""
        return clip_length(self.start.sample_of(step), self.config, self.start, self.total_steps)

    def prefetcher(self) -> DevicePrefetcher:
        """The training's batches from its first sample on."""
        length_of = functools.partial(
            clip_length, config=self.config, start=self.start, total_steps=self.total_steps
        )  # picklable, for the workers
        loader = self._loader(num_workers=self.config.data.num_workers, clip_length=length_of)
        return DevicePrefetcher(loader, self.dist.device, self.config.training.gradient_accumulation)

    def longest_batch(self) -> Batch:
        """The first one, with whole clips."""
        return self.augment(next(iter(self._loader())).to(self.dist.device))

    def check(self, run: Path) -> tuple[list[Check], list[str]]:
        """All that can be found out before the first step, and what there is to say of it."""
        engine, batch = self.engine, self.longest_batch()
        said = list(self.start.changes)
        if self.config.training.compile:
            said.append(compile_parts(engine.model, functools.partial(_warmup, engine, batch)))
        checks = preflight(
            self.config, self.clips, self.validation_clips, run, engine.model, engine.optimizers, batch,
            engine.evaluate, self.total_steps,
            self.steps_per_epoch, self.dist.device, self.start.folder is not None, self.allow_faults,
        )  # fmt: skip
        return checks, said

    def _loader(self, **more: object) -> ClipLoader:
        training, data = self.config.training, self.config.data
        return ClipLoader(
            self.clips,
            batch_size=training.batch_size,
            pin_memory=data.pin_memory,
            order=self.order,
            first_sample=self.start.sample,
            accumulation=training.gradient_accumulation,
            rank=self.dist.rank,
            world=self.dist.world,
            **more,  # type: ignore[arg-type]
        )


def set_up(
    config: Config, store_path: Path, run: Path, dist: DistributedContext, options: TrainOptions
) -> TrainingContext:
    """Build everything, or bring it back to the run's last checkpoint. Raises UserError for what the user can mend."""
    store = Store.open(store_path)
    config, start = prepare_run(config, store, run, options.resume, options.allow_change, dist.world)
    training, data = config.training, config.data
    clips, validation_clips = (
        ClipIndex(store, split, data.sequence_length, data.frame_skip, where=data.filter) for split in ("train", "val")
    )
    setup = TrainingContext(
        config=config,
        dist=dist,
        store=store,
        start=start,
        clips=clips,
        validation_clips=validation_clips,
        total_steps=total_steps(training, len(clips), start),
        order=build_sample_order(store, clips, data, training.seed),
        augment=DrivingAugmentation.from_config(data.augmentation, training.seed),
        engine=Engine(config, dist, options.data_parallel),
        validation=Validation(validation_clips, clips, config, dist),
        allow_faults=options.allow_faults,
    )
    if start.folder is not None:
        setup.engine.load(start.folder, start.state)
    return setup


def total_steps(training: TrainingConfig, clips: int, start: ResumeState) -> int:
    """Optimizer updates of a whole training: `num_epochs` passes or `max_steps`, whichever ends first."""
    left = training.num_epochs * clips - start.sample
    by_epochs = max(1, start.step + left // start.clips_per_step)
    return min(by_epochs, training.max_steps or by_epochs)


def clip_length(sample: int, config: Config, start: ResumeState, total_steps: int) -> int:
    """Frames of the clips of the batch that begins at `sample`: the context and the unroll of its step."""
    training = config.training
    longest = config.data.sequence_length - training.context_frames
    return training.context_frames + unroll_steps(start.step_of(sample), total_steps, training.unroll, longest)


def _warmup(engine: Engine, batch: Batch) -> None:
    engine.wrapped.train()
    for _ in engine.accumulate(batch, last=True):
        break
    engine.zero_grad()
