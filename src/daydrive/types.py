"""The shapes, units and ranges that the rooms hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

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
    group: drives of one group go to one split, since they show the same places; a drive without is a group of its own.
    made_from: what its actions come from, by the names in the source's metadata, where that differs between drives.
    """

    name: str
    hz: float
    frames: Callable[[], Iterator[Frame]]
    split: str | None = None
    length: int | None = None
    group: str | None = None
    made_from: dict[str, str] = field(default_factory=dict)


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
    clips: where each comes from. samples: the place of each in the order of the training, from 0 on.
    weights: float32 (B,), what each counts in its step; those of all batches of a step sum to 1, averaged over ranks.
    """

    images: torch.Tensor
    actions: torch.Tensor
    clips: list[Clip] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    weights: torch.Tensor | None = None

    def __getitem__(self, name: Literal["images", "actions"]) -> torch.Tensor:
        """`batch['images']` and `batch['actions']`; KeyError for another name."""
        if name not in ("images", "actions"):
            raise KeyError(name)
        return self.images if name == "images" else self.actions

    def pin_memory(self) -> Batch:
        return self._with(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Batch:
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def split(self, clips: int) -> list[Batch]:
        """The same clips in batches of at most `clips`."""
        places = [slice(i, i + clips) for i in range(0, len(self.images), clips)]
        return [
            Batch(
                self.images[p], self.actions[p], self.clips[p], self.samples[p],
                None if self.weights is None else self.weights[p],
            )
            for p in places
        ]  # fmt: skip

    def _with(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        weights = None if self.weights is None else move(self.weights)
        return Batch(move(self.images), move(self.actions), self.clips, self.samples, weights)


class Rollout(NamedTuple):
    """One clip, real and predicted, uint8.

    seen: the context (C, 3, H, W). real, predicted, shuffled, idle: (N, 3, H, W), `shuffled` predicted from another
    clip's actions after the context, `idle` from none: steering, throttle and brake 0. actions: float32 (C-1+N, 4), its
    own.
    """

    clip: Clip
    seen: torch.Tensor
    real: torch.Tensor
    predicted: torch.Tensor
    shuffled: torch.Tensor
    idle: torch.Tensor
    actions: torch.Tensor

    @property
    def last(self) -> torch.Tensor:
        """The last real frame before the prediction, (3, H, W): what copying predicts for every step."""
        return self.seen[-1]


def to_signed(images: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] → float32 [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] → uint8 [0, 255], any shape, rounded to nearest."""
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
