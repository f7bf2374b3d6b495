"""What a training says of itself: figures and pictures to the loggers, the progress, alarms. Rank 0 writes."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from torch import nn

from daydrive.checkpoint import Best
from daydrive.training.logging import RunLogger
from daydrive.training.logging.alarms import AlarmMonitor
from daydrive.training.logging.progress import Progress
from daydrive.training.setup import TrainingContext
from daydrive.training.step import StepResult
from daydrive.training.validation import Validated, reconstruction_sheet, sample_sheet


class Report:
    """A context manager; on other ranks than 0 everything is silent."""

    def __init__(self, run: Path, setup: TrainingContext) -> None:
        start, dist, total = setup.start, setup.dist, setup.total_steps
        self._config = setup.config
        self._hz = setup.clips.hz
        self._steps_per_epoch = setup.steps_per_epoch
        self._watch = AlarmMonitor(setup.config, total, setup.steps_per_epoch, start.state.get("alarms"))
        self._logger = RunLogger(run, start.step, setup.config) if dist.is_main else None
        self._progress: Progress | None = None
        if dist.is_main:
            accumulation = setup.config.training.gradient_accumulation
            self._progress = Progress(
                start.step, total, setup.steps_per_epoch, dist.device, cost=setup.length_at,
                batches_per_step=accumulation,
            )  # fmt: skip
            parameters = sum(p.numel() for p in setup.engine.model.parameters())
            height, width = setup.store.image_size
            self._progress.say(f"{parameters:,} parameters, {height}x{width} px, {total} steps → {run}")
        for sentence in self._logger.where() if self._logger is not None else ():
            self.say(sentence)

    def __enter__(self) -> Report:
        if self._progress is not None:
            self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.__exit__(kind, error, at)
        if self._logger is not None:
            self._logger.close()

    def say(self, sentence: str) -> None:
        if self._progress is not None:
            self._progress.say(sentence)

    def histograms(self, step: int, model: nn.Module) -> None:
        if self._logger is not None:
            self._logger.histograms(step, model)

    def validated(self, step: int, validated: Validated, trained: StepResult) -> None:
        """Pictures and films of a validation, and of the step before it."""
        if self._logger is None:
            return
        samples, context = self._config.logging.num_samples, self._config.training.context_frames
        self._logger.image(step, "val/samples", validated.sheet)
        self._logger.video(step, "val/rollout", validated.video, self._hz)
        self._logger.image(step, "train/reconstruction", reconstruction_sheet(trained, samples))
        self._logger.image(step, "train/prediction", sample_sheet(trained, context, samples))

    def best(self, best: Best) -> None:
        if self._progress is not None and best.step:
            self._progress.best(best.psnr, int((best.step - 1) / self._steps_per_epoch) + 1)

    def saved(self, step: int, folder: Path, aliases: list[str]) -> None:
        if self._logger is not None:
            self._logger.checkpoint(step, folder, aliases)

    def step_done(self, step: int, metrics: dict[str, float]) -> None:
        """`figures`: what there is to log, if anything."""
        if self._logger is None or self._progress is None:
            return
        if metrics:
            self._logger.scalars(step, metrics)
            for alarm in self._watch.observe(step, metrics):
                self._logger.note(step, alarm.sentence)
                self._progress.say(alarm.sentence, style="bold yellow")
        self._progress.advance(step, metrics)

    def state(self) -> dict[str, Any]:
        """Plain JSON for the checkpoint."""
        return {"alarms": self._watch.state(), "loggers": {} if self._logger is None else self._logger.state()}
