"""Types that modules exchange, with their shapes, units and ranges."""

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
    """A frame of a drive, sampled at a constant rate.

    image: uint8 (H, W, 3) RGB, or the bytes of a JPEG that already has the store's size. action: float32 (4,), what
    the driver did from this frame to the next. time: seconds since the drive's start. values: other readings of the
    source, by the names declared in its metadata.
    """

    image: Image | bytes
    action: npt.NDArray[np.float32]
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Drive:
    """An uninterrupted recording.

    frames: reads the recording frame by frame at each call, in constant memory; picklable, so that another process
    can call it. split: 'train', 'val' or 'test' where the source defines it, None where preparation decides. length:
    number of frames where known in advance (for progress). group: drives of one group get the same split, because
    they show the same locations; a drive without one is a group of its own. made_from: what its actions are derived
    from, by the names in the source's metadata, where that differs between drives. beside: the name of the drive of the
    same length that another camera recorded at the same time; both are cut at the same frames.
    """

    name: str
    hz: float
    frames: Callable[[], Iterator[Frame]]
    split: str | None = None
    length: int | None = None
    group: str | None = None
    made_from: dict[str, str] = field(default_factory=dict)
    beside: str | None = None


@dataclass(frozen=True)
class Clip:
    """A clip of a store: `length` frames of one drive, `frame_skip` apart, from row `start` of the store."""

    drive: str
    start: int
    length: int
    frame_skip: int


@dataclass(frozen=True)
class Batch:
    """A batch of clips.

    images: uint8 (B, T, 3, H, W). actions: float32 (B, T-1, 4), `actions[:, t]` between frames t and t+1. clips:
    their locations in the store. samples: their indices in the sample order of the training, from 0. weights: float32
    (B,), the weight of each clip in its step; the weights of all batches of a step sum to 1, averaged over ranks.
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
        slices = [slice(i, i + clips) for i in range(0, len(self.images), clips)]
        return [
            Batch(
                self.images[s], self.actions[s], self.clips[s], self.samples[s],
                None if self.weights is None else self.weights[s],
            )
            for s in slices
        ]  # fmt: skip

    def _with(self, transform: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        weights = None if self.weights is None else transform(self.weights)
        return Batch(transform(self.images), transform(self.actions), self.clips, self.samples, weights)


class Rollout(NamedTuple):
    """Real and predicted frames of one clip, uint8.

    seen: the context (C, 3, H, W). real, predicted, shuffled, idle: (N, 3, H, W), with `shuffled` predicted from
    another clip's actions after the context and `idle` from steering, throttle and brake 0. actions: float32 (C-1+N,
    4), the clip's own.
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
        """The last context frame (3, H, W): what copying the last frame predicts for every step."""
        return self.seen[-1]


def to_signed(images: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] → float32 [-1, 1], any shape."""
    return images.float().div_(127.5).sub_(1.0)


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] → uint8 [0, 255], any shape, rounded to nearest."""
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
