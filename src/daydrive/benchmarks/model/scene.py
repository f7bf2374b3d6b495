"""What every model is shown and told in a benchmark."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store
from daydrive.evaluation.adapter import Context

REAL_TIME_HZ = 10.0
"""where no store says how fast its frames follow one another"""


class Scene(NamedTuple):
    """images: uint8 (1, C, 3, H, W), the longest context that any model asks for. hz: of real time.
    text: in words, where they are from."""

    images: Tensor
    hz: float
    text: str

    @property
    def image_size(self) -> tuple[int, int]:
        return self.images.shape[3], self.images.shape[4]

    def context(self, frames: int, batch: int = 1) -> Context:
        """The newest `frames` of it, for every clip of the batch."""
        images = self.images[:, -frames:].expand(batch, -1, -1, -1, -1).contiguous()
        return Context(images, swaying(frames - 1).expand(batch, -1, -1).contiguous())


def of_store(store: Store, frames: int, frame_skip: int) -> Scene | None:
    """The first drive that is long enough; None where none is."""
    for drive in store.drives:
        if drive.frames > (frames - 1) * frame_skip:
            found, _ = read_images(store, np.arange(frames) * frame_skip + drive.start)
            images = torch.from_numpy(np.ascontiguousarray(found)).movedim(-1, 1)[None]
            return Scene(images.contiguous(), store.clip_hz(frame_skip), f"drive '{drive.name}' of {store.path}")
    return None


def noise(image_size: tuple[int, int], frames: int, hz: float) -> Scene:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, frames, 3, *image_size), dtype=torch.uint8, generator=generator)
    return Scene(images, hz, "noise")


def swaying(steps: int) -> Tensor:
    """Actions (1, steps, 4): the wheel goes left and right once in 60 steps, the throttle stays."""
    steering = torch.sin(torch.arange(steps) * (2 * torch.pi / 60)) * 0.5
    actions = torch.zeros(1, steps, 4)
    actions[0, :, 0], actions[0, :, 1], actions[0, :, 3] = steering, 0.3, 1.0
    return actions
