"""Takes of any gymnasium environment that shows a picture, driven as the source `gym` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from daydrive.data.sources import read_options
from daydrive.data.sources.gym import GymSource
from daydrive.recording.takes import Take


def takes(env: str, drives: int, frames: int, hz: float | None, seed: int) -> list[Take]:
    """UserError where there is no such environment, or one that can't be driven."""
    options: dict[str, Any] = {"env": env, "drives": drives, "frames": frames, "hz": hz, "seed": seed}
    source = GymSource()
    found = source.drives(Path(), read_options(source, options), (0, 0))
    return [Take(drive.name, frames, drive.frames) for drive in found]
