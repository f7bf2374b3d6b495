"""The line that says how far the training is: live on a terminal, one line a time elsewhere."""

from __future__ import annotations

import time

import psutil
import torch
from rich.console import Console
from rich.live import Live
from rich.text import Text

BAR = 12


class Progress:
    """Shows step, loss, metrics, rate, memory and time left; a context manager that gives the terminal back."""

    def __init__(self, start: int, total: int, steps_per_epoch: int, device: torch.device) -> None:
        self._start, self._total, self._steps_per_epoch = start, total, steps_per_epoch
        self._device = device
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._began = self._last = time.monotonic()
        self._seconds = 0.0
        self._values: dict[str, float] = {}
        self._best = ""

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str) -> None:
        self._console.print(sentence)

    def best(self, psnr: float, epoch: int) -> None:
        self._best = f"Best val: {psnr:.2f} dB (epoch {epoch})"

    def advance(self, step: int, values: dict[str, float] | None = None) -> None:
        """`step` updates are done; `values` are the newest figures, when there are any."""
        now = time.monotonic()
        taken, self._last = now - self._last, now
        self._seconds = taken if self._seconds == 0 else 0.95 * self._seconds + 0.05 * taken
        if values:
            self._values.update(values)
        if self._live is not None:
            self._live.update(Text(self.line(step), overflow="ellipsis", no_wrap=False))
        elif values:
            self._console.print(self.line(step))

    def line(self, step: int) -> str:
        epoch = (step - 1) // self._steps_per_epoch + 1
        epochs = (self._total - 1) // self._steps_per_epoch + 1
        filled = BAR * step // self._total
        bar = "=" * filled + (">" if filled < BAR else "") + " " * (BAR - filled - 1)
        done = step - self._start
        left = (time.monotonic() - self._began) / max(1, done) * (self._total - step)
        parts = [f"Epoch {epoch}/{epochs} [{bar}] Step {step}/{self._total}"]
        for name in ("train/loss", "train/psnr", "train/ssim", "val/psnr"):
            if name in self._values:
                unit = " dB" if name.endswith("psnr") else ""
                digits = 2 if unit else 4
                parts.append(f"{name}: {self._values[name]:.{digits}f}{unit}")
        if "lr" in self._values:
            parts.append(f"Learning rate: {self._values['lr']:.1e}")
        parts += [memory_line(self._device), f"Time: {self._seconds:.2f}s/batch", f"left {clock(left)}"]
        if self._best:
            parts.append(self._best)
        return "  ".join(parts)


def memory_line(device: torch.device) -> str:
    """Memory used and there: of the GPU where the training runs on one, else of this process and the machine."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"GPU: {(total - free) / 2**30:.1f}GB / {total / 2**30:.0f}GB"
    used, total = psutil.Process().memory_info().rss, psutil.virtual_memory().total
    return f"Memory: {used / 2**30:.1f}GB / {total / 2**30:.0f}GB"


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
