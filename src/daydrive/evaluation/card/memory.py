"""Is a dream a memory? How near its frames are to frames of the training drives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from daydrive.data.clips import read_pictures
from daydrive.data.store import Store
from daydrive.evaluation.horizon import UINT8_RANGE
from daydrive.metrics import psnr

FRAMES = 6000
"""Training frames that are looked through, evenly chosen; all, where there are no more."""
_CODE = (12, 16)
_CANDIDATES = 4
"""Frames that look nearest when small, of which the nearest at full size is taken."""


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
        codes = [_code(torch.from_numpy(read_pictures(store, part)[0]).movedim(-1, 1)) for part in parts if len(part)]
        self._codes = torch.cat(codes) if codes else None

    def nearest(self, frames: Tensor, drive: str) -> npt.NDArray[np.float64] | None:
        """PSNR in dB, (N,), of frames uint8 (N, 3, H, W) against the nearest training frame that is not of `drive`.

        None where there is no other training drive.
        """
        low, high = self._drives.get(drive, (-1, -1))
        others = torch.from_numpy((self.rows < low) | (self.rows >= high))
        if self._codes is None or not others.any():
            return None
        codes, rows = self._codes[others], self.rows[others.numpy()]
        places = torch.cdist(_code(frames), codes).topk(min(_CANDIDATES, len(rows)), largest=False).indices
        pictures, _ = read_pictures(self._store, rows[places.reshape(-1).numpy()])
        there = torch.from_numpy(pictures).movedim(-1, 1).reshape(*places.shape, *frames.shape[1:])
        figures: npt.NDArray[np.float64] = (
            psnr(frames[:, None].expand_as(there), there, UINT8_RANGE).amax(1).double().numpy()
        )
        return figures


def _code(frames: Tensor) -> Tensor:
    return adaptive_avg_pool2d(frames.float(), _CODE).flatten(1)
