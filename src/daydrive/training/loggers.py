"""Where a run's figures go: TensorBoard and `metrics.jsonl`. No other module knows TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from daydrive.files import write_text
from daydrive.types import Image


class RunLogger:
    """Writes scalars and pictures of a run; opened again at `step`, it drops what was logged from there on."""

    def __init__(self, run: Path, step: int) -> None:
        self._jsonl = run / "metrics.jsonl"
        _keep_until(self._jsonl, step)
        self._tensorboard = SummaryWriter(str(run), purge_step=step + 1)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)
        with self._jsonl.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def picture(self, step: int, name: str, picture: Image) -> None:
        """picture: uint8 (H, W, 3)."""
        self._tensorboard.add_image(name, torch.from_numpy(picture), step, dataformats="HWC")

    def close(self) -> None:
        self._tensorboard.close()


def _keep_until(jsonl: Path, step: int) -> None:
    """Cut the lines after `step`, and one that a killed process left unfinished."""
    if not jsonl.is_file():
        return
    kept = []
    for line in jsonl.read_text(encoding="utf-8").splitlines(keepends=True):
        record = _record(line)
        if record is not None and record["step"] <= step:
            kept.append(line)
    write_text(jsonl, "".join(kept))


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if line.endswith("\n") and isinstance(record, dict) and "step" in record else None
