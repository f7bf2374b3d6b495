"""How far the training is: a few lines that stay in place on a terminal, one line a time elsewhere."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.live import Live
from rich.text import Text

from daydrive.devices import memory_used

BAR = 12
KNOTS = 1024
RECENT = 25
"""Steps whose median is the time of a batch: validating and saving don't show in it."""
REDRAW = 0.25
"""Seconds that pass at least between two pictures on a terminal."""


class TimeLeft:
    """How long the rest takes, measured on what is done; steps may cost more or less than others.

    cost(n): what step n (from 0) costs beside other steps. The first step is not counted: it compiles and warms up.
    """

    def __init__(self, start: int, total: int, cost: Callable[[int], float], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._knots = np.unique(np.linspace(start, max(start + 1, total), KNOTS + 1).astype(int))
        costs = [cost(int(n)) for n in self._knots[:-1]]
        self._spent = np.concatenate([[0.0], np.cumsum(costs * np.diff(self._knots))])
        self._began: tuple[float, float] | None = None

    def seconds(self, step: int) -> float | None:
        """`step` steps are done, one more than at the last call. None until two of this process are."""
        now, done = self._clock(), float(np.interp(step, self._knots, self._spent))
        if self._began is None:
            self._began = now, done
            return None
        began, before = self._began
        return (now - began) / (done - before) * (float(self._spent[-1]) - done)


class Progress:
    """Shows step, loss, metrics, rate, memory and time left; a context manager that gives the terminal back.

    start: steps done before this process; total: of the whole training. cost: see TimeLeft. batches_per_step: micro-
    batches that are accumulated.
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
        self._total, self._steps_per_epoch, self._batches_per_step = total, steps_per_epoch, batches_per_step
        self._device, self._clock = device, clock
        self._console = console or Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._left = TimeLeft(start, total, cost, clock)
        self._seconds_left: float | None = None
        self._last, self._drawn = clock(), -math.inf
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._values: dict[str, float] = {}
        self._best = ""

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str, style: str = "") -> None:
        """style: rich's, such as 'bold yellow'. The sentence is taken as it is, brackets too."""
        self._console.print(sentence, style=style or None, markup=False)

    def best(self, psnr: float, epoch: int) -> None:
        self._best = f"Best val: {psnr:.1f} dB (epoch {epoch})"

    def advance(self, step: int, values: dict[str, float] | None = None) -> None:
        """`step` updates are done; `values` are the newest figures, when there are any."""
        now = self._clock()
        self._seconds.append((now - self._last) / self._batches_per_step)
        self._last = now
        self._seconds_left = self._left.seconds(step)
        self._values.update(values or {})
        if self._live is None:
            if values:
                self._console.print(self.line(step))
        elif values or now - self._drawn >= REDRAW or step == self._total:
            self._drawn = now
            self._live.update(self._image(step), refresh=True)

    def line(self, step: int) -> str:
        """All of it in one line."""
        return "  ".join([self._header(step), *self._details()])

    def _image(self, step: int) -> Text:
        image = Text(self._header(step), style="bold", no_wrap=True, overflow="ellipsis")
        for detail in self._details():
            image.append(f"\n  {detail}", style="not bold")
        return image

    def _header(self, step: int) -> str:
        epoch = int((max(1, step) - 1) / self._steps_per_epoch + 1e-9) + 1
        epochs = math.ceil(self._total / self._steps_per_epoch - 1e-9)
        filled = BAR * step // self._total
        bar = "=" * filled + (">" if filled < BAR else "") + " " * (BAR - filled - 1)
        return f"Epoch {epoch}/{epochs} [{bar}] Step {step}/{self._total}"

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


def memory_line(device: torch.device) -> str:
    """Memory used and there: of the GPU where the training runs on one, else of this process and the machine."""
    used, total = memory_used(device)
    name = "GPU" if device.type == "cuda" else "Memory"
    return f"{name}: {used / 2**30:.1f}GB / {total / 2**30:.0f}GB"


def scientific(value: float) -> str:
    """`8.5e-5`."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def seconds_text(seconds: float) -> str:
    """`2.3s`, `0.034s`."""
    return f"{seconds:.1f}s" if seconds >= 1 else f"{seconds:.2g}s"


def clock_text(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
