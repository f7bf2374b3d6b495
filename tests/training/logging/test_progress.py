"""The progress display, and the accuracy of the remaining time."""

from __future__ import annotations

import io
import math
import re

import pytest
import torch
from rich.console import Console

from daydrive.progress import KNOTS, CountProgress, Display, Pace, TimeLeft, clock_text, memory_line
from daydrive.training.logging import run_reporter
from daydrive.training.logging.run_reporter import TrainingProgress, scientific, seconds_text
from daydrive.training.lr_finder.finder import SweepProgress

CPU = torch.device("cpu")
METRICS = {"train/loss": 0.2344, "train/psnr": 24.52, "train/ssim": 0.821, "val/psnr": 24.08, "lr": 8.5e-5}


class Clock:
    """A clock that is advanced manually."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(terminal: bool, file: io.StringIO, clock: Clock) -> TrainingProgress:
    console = Console(file=file, force_terminal=terminal, width=100, soft_wrap=True)
    return TrainingProgress(0, 10_000, 100.0, CPU, clock=clock, console=console)


@pytest.fixture(autouse=True)
def known_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_reporter, "memory_line", lambda device: "GPU: 3.2GB / 11GB")


def test_terminal_output_matches_the_guide() -> None:
    clock, file = Clock(), io.StringIO()
    with shown(True, file, clock) as progress:
        progress.best(24.11, 49)
        for step in range(4998, 5001):
            clock.now += 2.3
            progress.advance(step, METRICS if step == 5000 else None)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()).split("Epoch ")[-1]
    assert [line.rstrip() for line in last.replace("\r", "").strip().splitlines()] == [
        "50/100 [======>     ] Step 5000/10000",
        "  train/loss: 0.234",
        "  train/psnr: 24.5 dB",
        "  train/ssim: 0.82",
        "  val/psnr: 24.1 dB",
        "  Learning rate: 8.5e-5",
        "  GPU: 3.2GB / 11GB",
        "  Time: 2.3s/batch",
        "  Left: 3:11:40",
        "  Best val: 24.1 dB (epoch 49)",
    ]


def test_terminal_is_updated_in_place_and_not_at_every_step() -> None:
    clock, file = Clock(), io.StringIO()
    with shown(True, file, clock) as progress:
        for step in range(1, 101):
            clock.now += 0.05
            progress.advance(step)
    drawn = file.getvalue().count("Epoch ")
    assert 15 <= drawn <= 25
    assert file.getvalue().count("\x1b[1A") >= 3 * (drawn - 2), "each picture is drawn over the one before"


def test_files_get_plain_lines() -> None:
    clock, file = Clock(), io.StringIO()
    with shown(False, file, clock) as progress:
        progress.print_message("2 parameters [bold]not markup[/bold]", style="bold yellow")
        for step in range(1, 5):
            clock.now += 2.3
            progress.advance(step, METRICS if step == 4 else None)
    assert file.getvalue().splitlines() == [
        "2 parameters [bold]not markup[/bold]",
        "Epoch 1/100 [>           ] Step 4/10000  train/loss: 0.234  train/psnr: 24.5 dB  train/ssim: 0.82  "
        "val/psnr: 24.1 dB  Learning rate: 8.5e-5  GPU: 3.2GB / 11GB  Time: 2.3s/batch  Left: 6:23:11",
    ]


def test_skipped_steps_are_shown() -> None:
    progress = shown(False, io.StringIO(), Clock())
    progress.advance(1, {"train/loss": math.nan, "train/skipped_steps": 0.0})
    assert "train/loss: nan" in progress.line(1) and "kipped" not in progress.line(1)
    progress.advance(2, {"train/skipped_steps": 3.0})
    assert "Skipped steps: 3 (float16 overflow)" in progress.line(2)


def test_batch_time_is_the_median() -> None:
    clock = Clock()
    progress = TrainingProgress(0, 100, 10.0, CPU, batches_per_step=4, clock=clock)
    for step, seconds in enumerate([60.0, 2.0, 2.0, 2.0, 30.0, 2.0], start=1):  # compiles, validates
        clock.now += seconds
        progress.advance(step)
    assert "Time: 0.5s/batch" in progress.line(6)


@pytest.mark.parametrize(
    ("step", "steps_per_epoch", "epoch"),
    [(0, 2.5, 1), (3, 2.5, 1), (4, 2.5, 2), (10, 2.5, 4), (1, 0.5, 1), (2, 0.5, 3)],
)
def test_step_across_two_epochs(step: int, steps_per_epoch: float, epoch: int) -> None:
    """Step n starts (n - 1) / steps_per_epoch epochs after the beginning."""
    line = TrainingProgress(0, 10, steps_per_epoch, CPU).line(step)
    assert line.startswith(f"Epoch {epoch}/{round(10 / steps_per_epoch)} [")


def run_until(step: int, start: int, total: int, seconds: list[float], cost_known: bool = True) -> float | None:
    """The estimate after `step` if step n takes seconds[n], plus one minute at the start."""
    clock = Clock()
    left = TimeLeft(start, total, (lambda n: seconds[n]) if cost_known else (lambda n: 1.0), clock)
    estimate = None
    for n in range(start, step):
        clock.now += seconds[n] * 0.1 + (60 if n == start else 0)
        estimate = left.seconds(n + 1)
    return estimate


LONGER_UNROLLS = [6.0] * 400 + [8.0] * 300 + [10.0] * 300


@pytest.mark.parametrize(("start", "step"), [(0, 2), (0, 100), (0, 650), (0, 999), (399, 450), (700, 702), (0, 1000)])
def test_remaining_time_includes_longer_unrolls(start: int, step: int) -> None:
    estimate = run_until(step, start, 1000, LONGER_UNROLLS)
    assert estimate == pytest.approx(sum(LONGER_UNROLLS[step:]) * 0.1)


def test_remaining_time_without_costs_is_too_short() -> None:
    estimate = run_until(300, 0, 1000, LONGER_UNROLLS, cost_known=False)
    assert estimate is not None and estimate < 0.8 * sum(LONGER_UNROLLS[300:]) * 0.1


def test_first_step_has_no_remaining_time() -> None:
    assert run_until(1, 0, 1000, LONGER_UNROLLS) is None
    assert run_until(701, 700, 1000, LONGER_UNROLLS) is None


def test_step_costs_are_sampled_for_long_trainings() -> None:
    asked = []
    total = 1_000_000
    clock = Clock()
    left = TimeLeft(0, total, lambda n: asked.append(n) or (1.0 if n < total // 2 else 3.0), clock)
    left.seconds(1)
    clock.now += 999.0
    assert left.seconds(1000) == pytest.approx(2 * total - 1000, rel=0.002)
    assert len(asked) <= KNOTS


def test_format_of_numbers() -> None:
    assert [scientific(value) for value in (8.5e-5, 1e-4, 0.003, 0.0)] == ["8.5e-5", "1.0e-4", "3.0e-3", "0.0e0"]
    assert [seconds_text(value) for value in (2.34, 12.0, 0.0341, 0.5)] == ["2.3s", "12.0s", "0.034s", "0.5s"]
    assert [clock_text(value) for value in (3723, 123.4, 0)] == ["1:02:03", "2:03", "0:00"]


def test_memory_of_this_process() -> None:
    assert re.fullmatch(r"Memory: \d+\.\dGB / \d+GB", memory_line(CPU))


def test_resumed_evaluation_counts_remaining_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, file = Clock(), io.StringIO()
    progress = CountProgress(Console(file=file), "clips")
    monkeypatch.setattr(progress, "_clock", clock)
    progress._pace, progress._last_printed = Pace(clock), clock()
    for done in (40, 50, 60, 80):
        progress(done, 100)
        clock.now += 20
    (line,) = file.getvalue().splitlines()
    assert re.fullmatch(r"clips 60/100, 0.5 a second, 1:20 left, memory \d+\.\d GiB", line), line


@pytest.mark.parametrize("display", [CountProgress, SweepProgress])
def test_terminal_is_restored(display: type[Display]) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    progress = CountProgress(console, "all") if display is CountProgress else SweepProgress(console, "all", 10)
    with progress:
        if isinstance(progress, SweepProgress):
            progress.step(5, 1e-4, 0.25)
        else:
            progress(5, 10)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "all [======>     ] 5/10" in drawn
    assert file.getvalue().rstrip().endswith("\x1b[2K"), "the drawing vanishes"


def test_sweep_prints_ten_plain_lines() -> None:
    file = io.StringIO()
    with SweepProgress(Console(file=file, width=100), "decoder", 50) as progress:
        for step in range(1, 51):
            progress.step(step, 1e-4, 0.25)
    lines = file.getvalue().splitlines()
    assert len(lines) == 10 and lines[-1] == "decoder 50/50  rate 1e-4  loss 0.2500  left 0:00"
