"""Caches the rollouts of a few clips on disk until they are rendered, so that memory does not grow."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from daydrive.files import atomic_replace
from daydrive.types import Clip, Rollout

WORST = 3
"""Number of clips with the lowest margin that are cached."""


class RolloutCache:
    """Caches the rollouts of the clips in `always` and of the worst clips so far, one file per clip.

    Several processes may share a folder: a process evicts a clip only when it knows `WORST` worse ones, so none of them
    evicts one of the worst of all clips.
    """

    def __init__(self, folder: Path, always: Collection[int], margins: Mapping[int, float]) -> None:
        """margins: of the clips that were already measured, by index."""
        self._folder, self._always = folder, always
        self._margins = margins_of(worst(margins), margins)

    def add(self, indices: Sequence[int], rollouts: Sequence[Rollout], margins: Sequence[float]) -> None:
        """Caches those of the rollouts that are needed. indices, margins: of their clips."""
        known = {**self._margins, **dict(zip(indices, margins, strict=True))}
        self._margins, previous = margins_of(worst(known), known), self._margins
        for index, rollout in zip(indices, rollouts, strict=True):
            if index in self._always or index in self._margins:
                _write(_file(self._folder, index), rollout)
        for index in previous.keys() - self._margins.keys() - set(self._always):
            _file(self._folder, index).unlink(missing_ok=True)


def worst(margins: Mapping[int, float]) -> list[int]:
    """The indices of the `WORST` clips with the lowest margin, the lowest first."""
    return heapq.nsmallest(WORST, margins, key=lambda index: (margins[index], index))


def margins_of(indices: Sequence[int], margins: Mapping[int, float]) -> dict[int, float]:
    """The margins of the clips with these indices."""
    return {index: margins[index] for index in indices}


def read_cached(folder: Path, index: int, clip: Clip) -> Rollout:
    """Reads the cached rollout of the clip with this index."""
    with np.load(_file(folder, index), allow_pickle=False) as data:
        return Rollout(clip, *(torch.from_numpy(data[name]) for name in Rollout._fields[1:]))


def bytes_cached(clips: int, length: int, steps: int, image_size: tuple[int, int]) -> int:
    """Bytes on disk for `clips` cached rollouts of `length` frames with `steps` steps, predicted in three variants."""
    return clips * (length + 3 * steps) * image_size[0] * image_size[1] * 3


def _write(file: Path, rollout: Rollout) -> None:
    with atomic_replace(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: getattr(rollout, name).numpy() for name in Rollout._fields[1:]})


def _file(folder: Path, index: int) -> Path:
    return folder / f"frames-{index:08d}.npz"
