"""Is a prediction a copy of the training drives? How near its frames are to their frames, a few seconds of it to a clip
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
from daydrive.evaluation.controllability.criteria import replayed
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE
from daydrive.metrics import psnr
from daydrive.types import Clip, Rollout

FRAMES = 6000
"""Training frames that are looked through, evenly chosen; all, where there are no more."""
_CODE = (12, 16)
_CANDIDATES = 4
"""Frames that look nearest when small, of which the nearest at full size is taken."""
STEPS = 15
"""Of a prediction, that the nearest training clip is looked for."""


class Found(NamedTuple):
    """A training clip; frames: uint8 (N, 3, H, W); psnr: in dB against what it was looked for, mean over frames."""

    clip: Clip
    frames: Tensor
    psnr: float


class Nearest(NamedTuple):
    """The training clips nearest to a prediction, and to what really came."""

    rollout: Rollout
    predicted: Found
    real: Found


class TrainingIndex:
    """Small copies of the training frames; the frames themselves stay in the store."""

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
        metrics: npt.NDArray[np.float64] = (
            psnr(frames[:, None].expand_as(there), there, UINT8_RANGE).amax(1).double().numpy()
        )
        return metrics

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
            there = self._read(row + ahead)
            likeness = float(psnr(frames, there, UINT8_RANGE).mean())
            if found is None or likeness > found.psnr:
                found = Found(Clip(name, row, len(frames), frame_skip), there, likeness)
        return found

    def nearest_to(self, rollout: Rollout) -> Nearest | None:
        """Of the first `STEPS` of a prediction and of what really came; None where no training drive is as long."""
        drive, skip = rollout.clip.drive, rollout.clip.frame_skip
        predicted = self.nearest_clip(rollout.predicted[:STEPS], drive, skip)
        real = self.nearest_clip(rollout.real[:STEPS], drive, skip)
        return Nearest(rollout, predicted, real) if predicted and real else None

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


def as_json(nearest: Nearest) -> dict[str, str | int | float | bool]:
    """Which clip it was, how near (dB, mean over the frames) and whether the prediction is a copy of it."""
    clip, predicted, real = nearest.rollout.clip, nearest.predicted, nearest.real
    return {
        "drive": clip.drive,
        "row": clip.start,
        "steps": predicted.clip.length,
        "nearest_drive": predicted.clip.drive,
        "nearest_row": predicted.clip.start,
        "dream_psnr": round(predicted.psnr, 4),
        "real_psnr": round(real.psnr, 4),
        "replayed": replayed(predicted.psnr, real.psnr),
    }


def _code(frames: Tensor) -> Tensor:
    return adaptive_avg_pool2d(frames.float(), _CODE).flatten(1)
