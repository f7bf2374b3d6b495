"""Recorded moments of a store, from which rollouts start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from daydrive.errors import UserError


class Moment(NamedTuple):
    """Where a recorded moment is in the store: its drive, and the frame of the drive that it ends with."""

    drive: str
    frame: int


class Recording(NamedTuple):
    """The frames up to several moments, uint8 (B, T, 3, H, W), and the actions between them, float32 (B, T-1, 4)."""

    images: Tensor
    actions: Tensor


class Moments:
    """The moments of a split that have `frames` frames up to and including them.

    They have the numbers of the clips `daydrive.Clips(store, split, frames, frame_skip)`.
    """

    def __init__(self, store: Store, split: str, frames: int, frame_skip: int) -> None:
        """Raises UserError if the split has none."""
        self._index = ClipIndex(store, split, frames, frame_skip)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def hz(self) -> float:
        """Frames a second."""
        return self._index.hz

    def check(self, clip: object) -> int:
        """The number of a clip; raises UserError if there is none of this number."""
        if isinstance(clip, bool) or not hasattr(clip, "__index__") or not 0 <= clip.__index__() < len(self):
            raise UserError(
                f"there is no clip {clip!r}: the clips of the split '{self._index.split}' of {self._index.store.path} "
                f"have the numbers 0 to {len(self) - 1}"
            )
        return int(clip.__index__())

    def read(self, clips: Sequence[int]) -> Recording:
        """Read the clips of these numbers. Raises UserError for a damaged image."""
        batch = read_clips(self._index.store, [self._index.clip(clip) for clip in clips])
        return Recording(batch.images, batch.actions)

    def locate(self, clip: int) -> Moment:
        """Where the moment of a clip is in the store."""
        last = (self._index.sequence_length - 1) * self._index.frame_skip
        drive, frame = self._index.store.locate(self._index.clip(clip).start + last)
        return Moment(drive.name, frame)
