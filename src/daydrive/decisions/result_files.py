"""Results of drives on disk, so that an interrupted command continues."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from daydrive.decisions.closed_loop import RoadResult
from daydrive.files import atomic_replace


def cached(file: Path, drive: Callable[[], list[RoadResult]]) -> RoadResult:
    """The result in the npz file; if there is none, the only one of `drive`, which is then written."""
    if file.is_file():
        return _read(file)
    (result,) = drive()
    with atomic_replace(file) as temporary, temporary.open("wb") as handle:
        values = {name: np.asarray(value) for name, value in result._asdict().items() if value is not None}
        np.savez(handle, allow_pickle=False, **values)
    return result


def _read(file: Path) -> RoadResult:
    with np.load(file) as saved:
        values = {name: value.item() if value.ndim == 0 else value for name, value in saved.items()}
    frames = values.pop("frames", None)
    return RoadResult(**values, frames=None if frames is None else torch.from_numpy(frames))
