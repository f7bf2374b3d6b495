"""One logger for the training loop, many places behind it."""

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
    """Writes a run's figures to JSONL and TensorBoard, and to W&B where the settings say so.

    Opened again at `step`, it drops what was logged after it, so that no step is there twice. Raises UserError where
    W&B is wanted and can't be had.
    """

    def __init__(self, run: Path, step: int, config: Config) -> None:
        run.mkdir(parents=True, exist_ok=True)
        # first, since it alone can fail for a reason that the user can mend
        wanted = config.logging.use_wandb and config.logging.wandb_mode != "disabled"
        wandb = [WandbLog(run, config, read_rows(run, step))] if wanted else []
        self._backends: list[Backend] = [JsonlLog(run, step), TensorBoardLog(run, step), *wandb]

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Figures by name, once a step."""
        for backend in self._backends:
            backend.scalars(step, values)

    def image(self, step: int, name: str, image: Image) -> None:
        """picture: uint8 (H, W, 3)."""
        for backend in self._backends:
            backend.image(step, name, image)

    def video(self, step: int, name: str, frames: npt.NDArray[np.uint8], hz: float) -> None:
        """frames: uint8 (T, H, W, 3), `hz` of them a second."""
        gif = encode_gif(frames, hz)
        for backend in self._backends:
            backend.video(step, name, gif, (frames.shape[1], frames.shape[2]))

    def histograms(self, step: int, model: nn.Module) -> None:
        """`weights/…` and, while the gradients are there, `gradients/…` of every parameter."""
        histograms = parameter_histograms(model)
        for backend in self._backends:
            backend.histograms(step, histograms)

    def checkpoint(self, step: int, folder: Path, aliases: list[str]) -> None:
        """A checkpoint is whole in `folder`; `aliases`: of best, last."""
        for backend in self._backends:
            backend.checkpoint(step, folder, aliases)

    def note(self, step: int, text: str) -> None:
        """An alarm, in words."""
        for backend in self._backends:
            backend.note(step, text)

    def state(self) -> dict[str, str | int]:
        """For the checkpoint of a step whose figures are logged: they are on the disk when this returns."""
        state: dict[str, str | int] = {}
        for backend in self._backends:
            state |= backend.state()
        return state

    def where(self) -> list[str]:
        """Sentences that tell a person where to look."""
        return [sentence for backend in self._backends for sentence in backend.where()]

    def close(self) -> None:
        """Close every place, also where one fails to."""
        with ExitStack() as stack:
            for backend in self._backends:
                stack.callback(backend.close)
