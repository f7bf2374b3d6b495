"""The parts of a training without a trainer, for tests of the preflight checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from daydrive.config import load_config
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError
from daydrive.models import build_world_model
from daydrive.training.checks import preflight, static_checks
from daydrive.training.optim.param_groups import build_optimizers
from daydrive.types import Batch, to_signed

CPU = torch.device("cpu")
GIB = 2**30


class Result(NamedTuple):
    loss: Tensor
    parts: dict[str, Tensor]


class Training:
    """A model, its optimizers and a step, as in the trainer."""

    def __init__(self, file: Path, store: Path, run: Path, *overrides: str) -> None:
        self.store, self.run = Store.open(store), run
        self.config = load_config(file, [*overrides, "model.image_size=[64, 64]"])
        torch.manual_seed(0)
        self.model = build_world_model(self.config)
        self.optimizers = build_optimizers(self.model, self.config.optimizer)
        self.seen: list[Batch] = []

    def clips(self) -> tuple[ClipIndex, ClipIndex]:
        """Of training and validation."""
        data = self.config.data
        indices = (ClipIndex(self.store, split, data.sequence_length, data.frame_skip) for split in ("train", "val"))
        return next(indices), next(indices)

    def batch(self, length: int = 5) -> Batch:
        index = ClipIndex(self.store, "train", self.config.data.sequence_length)
        return read_clips(self.store, [index.clip(i, length) for i in range(self.config.training.batch_size)])

    def step(self, batch: Batch) -> Result:
        self.seen.append(batch)
        images = to_signed(batch.images)
        context = self.config.training.context_frames
        output = self.model(images, batch.actions)
        painted = torch.cat([output["reconstructed"] - images, output["predicted"] - images[:, context:]], dim=1)
        per_clip = painted.abs().flatten(1).mean(dim=1)
        return Result(per_clip.mean(), {"loss": per_clip.detach(), "pred_loss": per_clip.detach()})

    def check(
        self, batch: Batch | None = None, step: Callable[[Batch], Result] | None = None
    ) -> list[static_checks.Check]:
        return preflight.preflight(
            self.config, *self.clips(), self.run, self.model, self.optimizers, batch or self.batch(), step or self.step,
            total_steps=12, steps_per_epoch=10.0, device=CPU, resumed=False,
        )  # fmt: skip


Make = Callable[..., Training]


def one_sentence(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400 and not text.endswith("."), text
    return text
