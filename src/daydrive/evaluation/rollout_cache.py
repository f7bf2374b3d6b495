"""The frames of a few clips, on disk until they are shown: memory holds none."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from daydrive.files import atomic_replace
from daydrive.types import Clip, Rollout

WORST = 3
"""Clips with the least margin whose frames are kept."""


class RolloutCache:
    """The rollouts of the clips `always` and of the worst so far, a file each.

    Several processes may share in one folder: a clip is let go only when `WORST` others are worse, so the worst
    of all are never let go by any of them.
    """

    def __init__(self, folder: Path, always: Collection[int], margins: Mapping[int, float]) -> None:
        """margins: of the clips that were seen before."""
        self._folder, self._always = folder, always
        self._margins = margins_of(worst(margins), margins)

    def add(self, numbers: Sequence[int], rollouts: Sequence[Rollout], margins: Sequence[float]) -> None:
        known = {**self._margins, **dict(zip(numbers, margins, strict=True))}
        self._margins, before = margins_of(worst(known), known), self._margins
        for number, rollout in zip(numbers, rollouts, strict=True):
            if number in self._always or number in self._margins:
                _write(_file(self._folder, number), rollout)
        for number in before.keys() - self._margins.keys() - set(self._always):
            _file(self._folder, number).unlink(missing_ok=True)


def worst(margins: Mapping[int, float]) -> list[int]:
    """The clips with the least margin, the worst first."""
    return heapq.nsmallest(WORST, margins, key=lambda number: (margins[number], number))


def margins_of(numbers: Sequence[int], margins: Mapping[int, float]) -> dict[int, float]:
    return {number: margins[number] for number in numbers}


def read_cached(folder: Path, number: int, clip: Clip) -> Rollout:
    with np.load(_file(folder, number), allow_pickle=False) as data:
        return Rollout(clip, *(torch.from_numpy(data[name]) for name in Rollout._fields[1:]))


def bytes_cached(clips: int, length: int, steps: int, image_size: tuple[int, int]) -> int:
    """Disk that the frames of `clips` of `length` frames take, of which `steps` are predicted in three ways."""
    return clips * (length + 3 * steps) * image_size[0] * image_size[1] * 3


def _write(file: Path, rollout: Rollout) -> None:
    with atomic_replace(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: getattr(rollout, name).numpy() for name in Rollout._fields[1:]})


def _file(folder: Path, number: int) -> Path:
    return folder / f"frames-{number:08d}.npz"
