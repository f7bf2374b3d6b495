"""The learning-rate finder: runs sweeps, prints what they suggest, and writes the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from daydrive.config import Config, as_tree
from daydrive.data.defaults import find_store
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.files import check_folder, created_parents, write_json
from daydrive.progress import Display, Pace, clock_text
from daydrive.provenance import device_name
from daydrive.training.checks.memory import available_memory, is_out_of_memory, memory_advice
from daydrive.training.interruption import exit_code, interruptions
from daydrive.training.lr_finder.suggestion import rate_text, settings_to_write
from daydrive.training.lr_finder.sweep import Range, Sweep, sweep
from daydrive.types import Image
from daydrive.viz.charts import COLOURS, FAINT, new_figure, render_figure, style_axis
from daydrive.viz.images import write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

JSON_FILE, IMAGE_FILE = "find_lr.json", "find_lr.png"

PLAIN_LINES = 10
"""Lines printed per sweep without a terminal."""

_SMOOTHED, _MARK, *_ = COLOURS
_RAW = "#9CC7E3"


def find_lr(
    config: Config,
    config_file: Path,
    data_root: Path | None,
    output: Path | None,
    device: torch.device,
    parts: Sequence[str],
    lr_range: Range,
) -> int:
    """Sweep each of `parts` (see `sweep`), print the settings to write into the config, and save curves and values;
    returns the exit code.

    output: default runs/find-lr-CONFIG-TIME. Nothing else is written, and nothing after an error; after Ctrl-C, the
    sweeps so far.
    """
    root, store_message = find_store(data_root, config.data)
    folder = output or Path("runs") / f"find-lr-{config_file.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    check_folder(folder, "output folder")
    if any((folder / name).exists() for name in ("checkpoints", "provenance.json")):
        raise UserError(f"the output folder {folder} holds a training; choose another --output")
    store = Store.open(root)
    console = Console(highlight=False, soft_wrap=True)
    if store_message:
        console.print(store_message)
    sweeps: dict[str, Sweep] = {}
    with interruptions() as interrupted:
        for part in parts:
            with SweepProgress(console, part, lr_range.steps) as progress, _advice_on_memory(config, device):
                swept = sweep(config, store, folder, part, lr_range, device, interrupted, progress.step)
            if swept is not None:
                sweeps[part] = swept
                console.print(f"{part}: {_outcome(swept)}")
            if interrupted.number:
                break
    if not sweeps:
        console.print("stopped before the first step; nothing was written")
        return exit_code(interrupted.number)
    suggested = {part: s.suggestion.rate for part, s in sweeps.items() if s.suggestion.rate is not None}
    to_write = settings_to_write(config, suggested)
    with created_parents(folder / JSON_FILE):
        write_png(folder / IMAGE_FILE, curves(sweeps))
        write_json(
            folder / JSON_FILE,
            {
                "settings_to_write": to_write,
                "sweeps": {part: _as_tree(swept) for part, swept in sweeps.items()},
                "settings": {
                    "config": as_tree(config),
                    "store": {"path": str(store.path), "fingerprint": store.fingerprint},
                    **lr_range._asdict(),
                },
                "device": device_name(device),
            },
        )
    if to_write:
        console.print(f"for {config_file}:\n{yaml_lines(to_write)}")
    console.print(f"{folder / IMAGE_FILE}, {JSON_FILE}")
    return exit_code(interrupted.number)


@contextmanager
def _advice_on_memory(config: Config, device: torch.device) -> Iterator[None]:
    """Turn an out-of-memory error into advice on settings."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(memory_advice(None, available_memory(device), config, device=device.type)) from error


def _outcome(swept: Sweep) -> str:
    rate = swept.suggestion.rate
    suggested = "no suggestion" if rate is None else rate_text(rate)
    return f"{suggested}: {swept.suggestion.reason} ({swept.stopped_because}; {swept.seconds:.0f} s)"


def _as_tree(swept: Sweep) -> dict[str, object]:
    """The sweep as it is saved in JSON."""
    suggestion = swept.suggestion
    return {
        "suggestion": suggestion.rate,
        "reason": suggestion.reason,
        "lowest_between": None if suggestion.rate is None else [suggestion.low, suggestion.high],
        "stopped_because": swept.stopped_because,
        "seconds": round(swept.seconds, 1),
        "rates": swept.rates,
        "losses": swept.losses,
        "smoothed": swept.smoothed,
    }


class SweepProgress(Display):
    """Learning rate, loss and time left of the sweep of `part`."""

    def __init__(self, console: Console, part: str, steps: int) -> None:
        super().__init__(console)
        self._part, self._steps, self._pace = part, steps, Pace(self._clock, 0)

    def step(self, done: int, rate: float, loss: float) -> None:
        left = clock_text(self._pace.seconds_left(done, self._steps) or 0)
        line = f"{self._counted(self._part, done, self._steps)}  rate {rate_text(rate)}  loss {loss:.4f}  left {left}"
        self._show(lambda: line, done % max(1, self._steps // PLAIN_LINES) == 0)


def curves(sweeps: Mapping[str, Sweep]) -> Image:
    """Loss over learning rate, raw and smoothed, with the suggestion marked; one panel per sweep."""
    figure = new_figure(max(7.0, 5.2 * len(sweeps)), 4.2)
    for axis, (part, swept) in zip(figure.subplots(1, len(sweeps), squeeze=False)[0], sweeps.items(), strict=True):
        _curve(axis, part, swept)
    figure.suptitle(
        "Loss on fixed validation clips after each step, with a growing learning rate", x=0.01, ha="left", fontsize=11
    )
    return render_figure(figure)


def _curve(axis: Axes, part: str, swept: Sweep) -> None:
    rate, low, high, _ = swept.suggestion
    axis.set_xscale("log")
    axis.plot(swept.rates, swept.losses, color=_RAW, linewidth=1.2, label="loss")
    axis.plot(swept.rates, swept.smoothed, color=_SMOOTHED, linewidth=2.2, label="smoothed")
    lowest, first = min(swept.smoothed), swept.smoothed[0]
    if first > lowest:
        axis.set_ylim(lowest - 0.2 * (first - lowest), first + 0.4 * (first - lowest))
    if rate is not None and low is not None and high is not None:
        axis.axvspan(low, high, color=_MARK, alpha=0.08, linewidth=0, label="lowest")
        axis.axvline(rate, color=_MARK, linewidth=1.8, linestyle="--", label=f"suggestion {rate_text(rate)}")
    axis.legend(frameon=False, fontsize=9, loc="lower left")
    style_axis(axis, "optimizer.lr" if part == "all" else f"optimizer.{part}_lr", grid="both")
    axis.set_xlabel("learning rate", color=FAINT)
    axis.set_ylabel("loss", color=FAINT)


def yaml_lines(settings: Mapping[str, Mapping[str, float]]) -> str:
    """The settings as YAML sections and keys."""
    lines = []
    for section, keys in settings.items():
        lines += [f"{section}:", *(f"  {key}: {rate_text(value)}" for key, value in keys.items())]
    return "\n".join(lines)
