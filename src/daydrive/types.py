"""The shapes, units and ranges that the rooms hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

ACTION_NAMES = ("steering", "throttle", "brake", "gear")
"""steering [-1, 1] positive to the right, throttle [0, 1], brake [0, 1], gear in {-1, 0, 1}."""

ACTION_LOW = np.array([-1.0, 0.0, 0.0, -1.0], dtype=np.float32)
ACTION_HIGH = np.array([1.0, 1.0, 1.0, 1.0], dtype=np.float32)

Image = npt.NDArray[np.uint8]
"""uint8 (H, W, 3), RGB."""


class Frame(NamedTuple):
    """One moment of a drive on an even clock.

    image: uint8 (H, W, 3) RGB, or the bytes of a JPEG that already has the store's size.
    action: float32 (4,), what the driver did from this frame to the next.
    time: seconds since the drive began.
    values: the source's own readings, by the names declared in the source's metadata.
    """

    image: Image | bytes
    action: npt.NDArray[np.float32]
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Drive:
    """One uninterrupted recording.

    frames: reads it anew at each call, frame by frame, in constant memory; picklable, so that another process can.
    split: 'train', 'val' or 'test' where the source fixes it, None where preparation decides.
    length: number of frames where it is known beforehand (for progress).
    """

    name: str
    hz: float
    frames: Callable[[], Iterator[Frame]]
    split: str | None = None
    length: int | None = None


@dataclass(frozen=True)
class Clip:
    """Where an example lies: `length` frames of one drive, `frame_skip` apart, from row `start` of the store."""

    drive: str
    start: int
    length: int
    frame_skip: int


@dataclass(frozen=True)
class Batch:
    """A batch of clips.

    images: uint8 (B, T, 3, H, W); actions: float32 (B, T-1, 4), `actions[:, t]` between frames t and t+1.
    clips: where each comes from.
    """

    images: torch.Tensor
    actions: torch.Tensor
    clips: list[Clip] = field(default_factory=list)

    def pin_memory(self) -> Batch:
        return Batch(self.images.pin_memory(), self.actions.pin_memory(), self.clips)

    def split(self, clips: int) -> list[Batch]:
        """The same clips in batches of at most `clips`."""
        starts = range(0, len(self.images), clips)
        return [
            Batch(self.images[i : i + clips], self.actions[i : i + clips], self.clips[i : i + clips]) for i in starts
        ]

    def to(self, device: torch.device) -> Batch:
        return Batch(self.images.to(device, non_blocking=True), self.actions.to(device, non_blocking=True), self.clips)


def to_signed(images: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] → float32 [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] → uint8 [0, 255], any shape, rounded to nearest."""
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
