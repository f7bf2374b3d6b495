"""The logger of a training, which writes to several logs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from daydrive.config import Config
from daydrive.training.logging.backend import Backend
from daydrive.training.logging.histograms import parameter_histograms
from daydrive.training.logging.jsonl import JsonlLog, read_rows
from daydrive.training.logging.tensorboard import TensorBoardLog
from daydrive.training.logging.wandb import WandbLog
from daydrive.types import Image
from daydrive.viz.images import encode_gif


class RunLogger:
    """Writes metrics to JSONL and TensorBoard, and to W&B where the settings ask for it.

    Opened at `step`, it removes what was logged after it, so that no step occurs twice. Raises UserError where W&B is
    requested but not available.
    """

    def __init__(self, run: Path, step: int, config: Config) -> None:
        run.mkdir(parents=True, exist_ok=True)
        # first, because only W&B can fail because of the user's settings
        use_wandb = config.logging.use_wandb and config.logging.wandb_mode != "disabled"
        wandb = [WandbLog(run, config, read_rows(run, step))] if use_wandb else []
        self._backends: list[Backend] = [JsonlLog(run, step), TensorBoardLog(run, step), *wandb]

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log metrics by name, once per step."""
        for backend in self._backends:
            backend.scalars(step, values)

    def image(self, step: int, name: str, image: Image) -> None:
        """image: uint8 (H, W, 3)."""
        for backend in self._backends:
            backend.image(step, name, image)

    def video(self, step: int, name: str, frames: npt.NDArray[np.uint8], hz: float) -> None:
        """frames: uint8 (T, H, W, 3). hz: frames per second."""
        gif = encode_gif(frames, hz)
        for backend in self._backends:
            backend.video(step, name, gif, (frames.shape[1], frames.shape[2]))

    def histograms(self, step: int, model: nn.Module) -> None:
        """Log histograms of all parameters and, where they exist, their gradients."""
        histograms = parameter_histograms(model)
        for backend in self._backends:
            backend.histograms(step, histograms)

    def checkpoint(self, step: int, folder: Path, aliases: list[str]) -> None:
        """Log the complete checkpoint in `folder`. aliases: 'best', 'last'."""
        for backend in self._backends:
            backend.checkpoint(step, folder, aliases)

    def note(self, step: int, text: str) -> None:
        """Log an alarm."""
        for backend in self._backends:
            backend.note(step, text)

    def state(self) -> dict[str, str | int]:
        """Write the metrics to disk; returns what the checkpoint should store."""
        state: dict[str, str | int] = {}
        for backend in self._backends:
            state |= backend.state()
        return state

    def where(self) -> list[str]:
        """Sentences that tell where to find the logs."""
        return [sentence for backend in self._backends for sentence in backend.where()]

    def close(self) -> None:
        """Close every log, even where one fails to close."""
        with ExitStack() as stack:
            for backend in self._backends:
                stack.callback(backend.close)
