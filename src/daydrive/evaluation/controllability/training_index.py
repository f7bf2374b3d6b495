"""Is a dream a memory? How near it is to the training drives: its frames to their frames, a few seconds of it to a clip
of theirs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE, Rollout
from daydrive.metrics import psnr
from daydrive.types import Clip

FRAMES = 6000
"""Training frames that are looked through, evenly chosen; all, where there are no more."""
_CODE = (12, 16)
_CANDIDATES = 4
"""Frames that look nearest when small, of which the nearest at full size is taken."""
STEPS = 15
"""Of a dream, that the nearest training clip is looked for."""


class Found(NamedTuple):
    """A training clip; pictures: uint8 (N, 3, H, W); psnr: in dB against what it was looked for, mean over frames."""

    clip: Clip
    pictures: Tensor
    psnr: float


class Recalled(NamedTuple):
    """The training clips nearest to a dream, and to what really came."""

    rollout: Rollout
    dream: Found
    real: Found


class Memory:
    """Small copies of the training frames; the pictures themselves stay in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        drives = store.split("train")
        rows = np.concatenate([np.empty(0, np.int64), *(drive.start + np.arange(drive.frames) for drive in drives)])
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(FRAMES, len(rows))).round().astype(np.int64))
        self.rows: npt.NDArray[np.int64] = rows[chosen]
        self._drives = {drive.name: (drive.start, drive.start + drive.frames) for drive in drives}
        parts = np.array_split(self.rows, max(1, len(self.rows) // 256))
        codes = [_code(self._read(part)) for part in parts if len(part)]
        self._codes = torch.cat(codes) if codes else None

    def nearest(self, frames: Tensor, drive: str) -> npt.NDArray[np.float64] | None:
        """PSNR in dB, (N,), of frames uint8 (N, 3, H, W) against the nearest training frame that is not of `drive`.

        None where there is no other training drive.
        """
        rows = self._alike(frames, drive, _CANDIDATES)
        if rows is None:
            return None
        there = self._read(rows.reshape(-1)).reshape(*rows.shape, *frames.shape[1:])
        figures: npt.NDArray[np.float64] = (
            psnr(frames[:, None].expand_as(there), there, UINT8_RANGE).amax(1).double().numpy()
        )
        return figures

    def nearest_clip(self, frames: Tensor, drive: str, frame_skip: int) -> Found | None:
        """The clip of another training drive that is most like frames uint8 (N, 3, H, W), one frame after the other.

        Looked for among the clips that run through a frame which one of these looks most like. None where no other
        training drive is as long.
        """
        rows = self._alike(frames, drive, 1)
        if rows is None:
            return None
        ahead = frame_skip * np.arange(len(frames))
        clips: dict[int, str] = {}
        for row in rows[:, 0] - ahead:
            for name, (low, high) in self._drives.items():
                if low <= row and row + ahead[-1] < high:
                    clips[int(row)] = name
        found: Found | None = None
        for row, name in clips.items():
            pictures = self._read(row + ahead)
            likeness = float(psnr(frames, pictures, UINT8_RANGE).mean())
            if found is None or likeness > found.psnr:
                found = Found(Clip(name, row, len(frames), frame_skip), pictures, likeness)
        return found

    def recall(self, rollout: Rollout) -> Recalled | None:
        """Of the first `STEPS` of a dream and of what really came; None where no training drive is as long."""
        drive, skip = rollout.clip.drive, rollout.clip.frame_skip
        dream = self.nearest_clip(rollout.predicted[:STEPS], drive, skip)
        real = self.nearest_clip(rollout.real[:STEPS], drive, skip)
        return Recalled(rollout, dream, real) if dream and real else None

    def _alike(self, frames: Tensor, drive: str, count: int) -> npt.NDArray[np.int64] | None:
        """Rows (N, up to `count`) of the training frames that are not of `drive` and look most alike when small."""
        low, high = self._drives.get(drive, (-1, -1))
        others = torch.from_numpy((self.rows < low) | (self.rows >= high))
        if self._codes is None or not others.any():
            return None
        rows = self.rows[others.numpy()]
        distances = torch.cdist(_code(frames), self._codes[others])
        return rows[distances.topk(min(count, len(rows)), largest=False).indices.numpy()]

    def _read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(read_images(self._store, rows)[0]).movedim(-1, 1)


def as_json(recalled: Recalled) -> dict[str, str | int | float]:
    """Which clip it was, and how near: dB, mean over the frames."""
    clip, dream, real = recalled.rollout.clip, recalled.dream, recalled.real
    return {
        "drive": clip.drive,
        "row": clip.start,
        "steps": dream.clip.length,
        "nearest_drive": dream.clip.drive,
        "nearest_row": dream.clip.start,
        "dream_psnr": round(dream.psnr, 4),
        "real_psnr": round(real.psnr, 4),
    }


def _code(frames: Tensor) -> Tensor:
    return adaptive_avg_pool2d(frames.float(), _CODE).flatten(1)
