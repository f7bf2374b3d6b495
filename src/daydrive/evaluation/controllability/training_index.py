"""Nearest-neighbour search in the training drives, for single frames and clips, to detect replayed training data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import Store
from daydrive.evaluation.controllability.criteria import is_replay
from daydrive.evaluation.metrics.frame_metrics import UINT8_RANGE
from daydrive.metrics import psnr
from daydrive.types import Clip, Rollout

FRAMES = 6000
"""Maximum number of training frames in the index, evenly spaced."""
_CODE = (12, 16)
_CANDIDATES = 4
"""Nearest frames at low resolution, among which the nearest at full resolution is selected."""
STEPS = 15
"""Steps of a rollout for which the nearest training clip is searched."""


class ClipMatch(NamedTuple):
    """A training clip. frames: uint8 (N, 3, H, W). psnr: in dB against the query, mean over the frames."""

    clip: Clip
    frames: Tensor
    psnr: float


class NearestClips(NamedTuple):
    """The training clips nearest to the predicted and to the real frames of a rollout."""

    rollout: Rollout
    predicted: ClipMatch
    real: ClipMatch


class TrainingIndex:
    """Downsampled training frames in memory; the frames at full resolution are read from the store."""

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
        """PSNR in dB, (N,), of frames uint8 (N, 3, H, W) to the nearest training frame outside `drive`.

        None if there is no other training drive.
        """
        rows = self._nearest_rows(frames, drive, _CANDIDATES)
        if rows is None:
            return None
        candidates = self._read(rows.reshape(-1)).reshape(*rows.shape, *frames.shape[1:])
        values: npt.NDArray[np.float64] = (
            psnr(frames[:, None].expand_as(candidates), candidates, UINT8_RANGE).amax(1).double().numpy()
        )
        return values

    def nearest_clip(self, frames: Tensor, drive: str, frame_skip: int) -> ClipMatch | None:
        """The clip outside `drive` with the highest mean PSNR to frames uint8 (N, 3, H, W), frame by frame.

        The candidates are the clips aligned with the nearest training frame of one of the frames. None if no other
        training drive is long enough.
        """
        rows = self._nearest_rows(frames, drive, 1)
        if rows is None:
            return None
        offsets = frame_skip * np.arange(len(frames))
        clips: dict[int, str] = {}
        for row in rows[:, 0] - offsets:
            for name, (low, high) in self._drives.items():
                if low <= row and row + offsets[-1] < high:
                    clips[int(row)] = name
        best: ClipMatch | None = None
        for row, name in clips.items():
            candidate = self._read(row + offsets)
            similarity = float(psnr(frames, candidate, UINT8_RANGE).mean())
            if best is None or similarity > best.psnr:
                best = ClipMatch(Clip(name, row, len(frames), frame_skip), candidate, similarity)
        return best

    def match_rollout(self, rollout: Rollout) -> NearestClips | None:
        """The nearest training clips of the first `STEPS` steps; None if no other training drive is long enough."""
        drive, skip = rollout.clip.drive, rollout.clip.frame_skip
        predicted = self.nearest_clip(rollout.predicted[:STEPS], drive, skip)
        real = self.nearest_clip(rollout.real[:STEPS], drive, skip)
        return NearestClips(rollout, predicted, real) if predicted and real else None

    def _nearest_rows(self, frames: Tensor, drive: str, count: int) -> npt.NDArray[np.int64] | None:
        """Rows (N, up to `count`) of the training frames outside `drive` that are nearest at low resolution."""
        low, high = self._drives.get(drive, (-1, -1))
        others = torch.from_numpy((self.rows < low) | (self.rows >= high))
        if self._codes is None or not others.any():
            return None
        rows = self.rows[others.numpy()]
        distances = torch.cdist(_code(frames), self._codes[others])
        return rows[distances.topk(min(count, len(rows)), largest=False).indices.numpy()]

    def _read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(read_images(self._store, rows)[0]).movedim(-1, 1)


def as_json(nearest: NearestClips) -> dict[str, str | int | float | bool]:
    """The clips, their PSNR in dB (mean over the frames), and whether the prediction replays the training clip."""
    clip, predicted, real = nearest.rollout.clip, nearest.predicted, nearest.real
    return {
        "drive": clip.drive,
        "row": clip.start,
        "steps": predicted.clip.length,
        "nearest_drive": predicted.clip.drive,
        "nearest_row": predicted.clip.start,
        "dream_psnr": round(predicted.psnr, 4),
        "real_psnr": round(real.psnr, 4),
        "replayed": is_replay(predicted.psnr, real.psnr),
    }


def _code(frames: Tensor) -> Tensor:
    return adaptive_avg_pool2d(frames.float(), _CODE).flatten(1)
