"""Reporting of a training: metrics and images to the loggers, progress and alarms to the terminal. Only rank 0
writes."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import nn

from daydrive.checkpoint import Best
from daydrive.progress import Display, TimeLeft, bar, clock_text, memory_line
from daydrive.training.context import TrainingContext
from daydrive.training.logging import RunLogger
from daydrive.training.logging.alarms import AlarmMonitor
from daydrive.training.step import ClipFrames
from daydrive.training.validation import ValidationResult, reconstruction_sheet, sample_sheet

RECENT = 25
"""Number of steps for the median time of a batch, which validation and saving do not affect."""


class RunReporter:
    """Reports a training while this context lasts; does nothing on other ranks than 0."""

    def __init__(self, run: Path, context: TrainingContext) -> None:
        resume_state, dist, total = context.resume_state, context.dist, context.total_steps
        self._config = context.config
        self._hz = context.clips.hz
        self._steps_per_epoch = context.steps_per_epoch
        self._alarms = AlarmMonitor(context.config, total, context.steps_per_epoch, resume_state.state.get("alarms"))
        self._logger = RunLogger(run, resume_state.step, context.config) if dist.is_main else None
        self._progress: TrainingProgress | None = None
        if dist.is_main:
            accumulation = context.config.training.gradient_accumulation
            self._progress = TrainingProgress(
                resume_state.step, total, context.steps_per_epoch, dist.device, cost=context.cost_at,
                batches_per_step=accumulation,
            )  # fmt: skip
            parameters = sum(p.numel() for p in context.engine.model.parameters())
            height, width = context.store.image_size
            self._progress.print_message(f"{parameters:,} parameters, {height}x{width} px, {total} steps → {run}")
        for message in self._logger.where() if self._logger is not None else ():
            self.print_message(message)

    def __enter__(self) -> RunReporter:
        if self._progress is not None:
            self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.__exit__(kind, error, at)
        if self._logger is not None:
            self._logger.close()

    def print_message(self, message: str) -> None:
        if self._progress is not None:
            self._progress.print_message(message)

    def histograms(self, step: int, model: nn.Module) -> None:
        if self._logger is not None:
            self._logger.histograms(step, model)

    def validated(self, step: int, validated: ValidationResult, trained: ClipFrames) -> None:
        """Log images and videos of a validation, and of the training step before it."""
        if self._logger is None:
            return
        samples = self._config.logging.num_samples
        self._logger.image(step, "val/samples", validated.sheet)
        self._logger.video(step, "val/rollout", validated.video, self._hz)
        self._logger.image(step, "train/reconstruction", reconstruction_sheet(trained, samples))
        self._logger.image(step, "train/prediction", sample_sheet(trained, samples))

    def best(self, best: Best) -> None:
        if self._progress is not None and best.step:
            self._progress.best(best.psnr, int((best.step - 1) / self._steps_per_epoch) + 1)

    def saved(self, step: int, folder: Path, aliases: list[str]) -> None:
        if self._logger is not None:
            self._logger.checkpoint(step, folder, aliases)

    def step_done(self, step: int, metrics: dict[str, float]) -> None:
        """Update progress; log `metrics`, where there are any, and check them for alarms."""
        if self._logger is None or self._progress is None:
            return
        if metrics:
            self._logger.scalars(step, metrics)
            for alarm in self._alarms.observe(step, metrics):
                self._logger.note(step, alarm.sentence)
                self._progress.print_message(alarm.sentence, style="bold yellow")
        self._progress.advance(step, metrics)

    def state(self) -> dict[str, Any]:
        """State for the checkpoint, as plain JSON."""
        return {"alarms": self._alarms.state(), "loggers": {} if self._logger is None else self._logger.state()}


class TrainingProgress(Display):
    """Step, loss, metrics, learning rate, memory and time left: updated in place on a terminal, otherwise one line per
    log.

    start: steps done before this process. total: steps of the whole training. cost: see TimeLeft. batches_per_step:
    micro-batches that are accumulated in a step.
    """

    def __init__(
        self,
        start: int,
        total: int,
        steps_per_epoch: float,
        device: torch.device,
        *,
        cost: Callable[[int], float] = lambda step: 1.0,
        batches_per_step: int = 1,
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        super().__init__(console or Console(soft_wrap=True), transient=False, clock=clock)
        self._total, self._steps_per_epoch, self._batches_per_step = total, steps_per_epoch, batches_per_step
        self._device = device
        self._left = TimeLeft(start, total, cost, clock)
        self._seconds_left: float | None = None
        self._last = clock()
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._values: dict[str, float] = {}
        self._best = ""

    def best(self, psnr: float, epoch: int) -> None:
        self._best = f"Best val: {psnr:.1f} dB (epoch {epoch})"

    def advance(self, step: int, values: dict[str, float] | None = None) -> None:
        """Show that `step` updates are done. values: the newest metrics, where there are any."""
        now = self._clock()
        self._seconds.append((now - self._last) / self._batches_per_step)
        self._last = now
        self._seconds_left = self._left.seconds(step)
        self._values.update(values or {})
        due = bool(values) or (self._live is not None and step == self._total)
        self._show(lambda: self.line(step), due, lambda: self._block(step))

    def line(self, step: int) -> str:
        """The whole progress in one line."""
        return "  ".join([self._header(step), *self._details()])

    def _block(self, step: int) -> Text:
        block = Text(self._header(step), style="bold", no_wrap=True, overflow="ellipsis")
        for detail in self._details():
            block.append(f"\n  {detail}", style="not bold")
        return block

    def _header(self, step: int) -> str:
        epoch = int((max(1, step) - 1) / self._steps_per_epoch + 1e-9) + 1
        epochs = math.ceil(self._total / self._steps_per_epoch - 1e-9)
        return f"Epoch {epoch}/{epochs} {bar(step, self._total)} Step {step}/{self._total}"

    def _details(self) -> list[str]:
        shown = {
            "train/loss": "train/loss: {:#.3g}",
            "train/psnr": "train/psnr: {:.1f} dB",
            "train/ssim": "train/ssim: {:.2f}",
            "val/psnr": "val/psnr: {:.1f} dB",
        }
        details = [text.format(self._values[name]) for name, text in shown.items() if name in self._values]
        if "lr" in self._values:
            details.append(f"Learning rate: {scientific(self._values['lr'])}")
        if self._values.get("train/skipped_steps"):
            details.append(f"Skipped steps: {self._values['train/skipped_steps']:.0f} (float16 overflow)")
        details.append(memory_line(self._device))
        if self._seconds:
            details.append(f"Time: {seconds_text(statistics.median(self._seconds))}/batch")
        if self._seconds_left is not None:
            details.append(f"Left: {clock_text(self._seconds_left)}")
        return [*details, self._best] if self._best else details


def scientific(value: float) -> str:
    """`8.5e-5`."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def seconds_text(seconds: float) -> str:
    """`2.3s`, `0.034s`."""
    return f"{seconds:.1f}s" if seconds >= 1 else f"{seconds:.2g}s"
