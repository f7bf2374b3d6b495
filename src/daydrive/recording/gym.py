"""Recording from Gymnasium environments with image observations, driven as in the source `gym`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daydrive.data.sources import read_options
from daydrive.data.sources.gym import GymSource
from daydrive.recording.recorder import PlannedDrive


def planned_drives(env: str, drives: int, frames: int, hz: float | None, seed: int) -> list[PlannedDrive]:
    """Plan `drives` drives of `frames` frames each. Raises UserError for an unknown or unsupported environment."""
    options: dict[str, Any] = {"env": env, "drives": drives, "frames": frames, "hz": hz, "seed": seed}
    source = GymSource()
    planned = source.drives(Path(), read_options(source, options), (0, 0))
    return [PlannedDrive(drive.name, frames, drive.frames) for drive in planned]
