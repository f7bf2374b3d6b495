"""The interface between a run and the logs that its metrics are written to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from daydrive.training.logging.histograms import Histogram
from daydrive.types import Image


class Backend:
    """A log of metrics. Methods do nothing unless overridden, so a log leaves out what it cannot show."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics by name; steps are increasing."""

    def image(self, step: int, name: str, image: Image) -> None:
        """image: uint8 (H, W, 3)."""

    def video(self, step: int, name: str, gif: bytes, size: tuple[int, int]) -> None:
        """gif: a complete animated GIF. size: its height and width in pixels."""

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """Log distributions of values by name."""

    def checkpoint(self, step: int, folder: Path, aliases: list[str]) -> None:
        """Log the checkpoint in `folder`, known by the names `aliases`."""

    def note(self, step: int, text: str) -> None:
        """Log a message that a person should read."""

    def state(self) -> dict[str, str | int]:
        """Write everything to disk; returns what the checkpoint should store."""
        return {}

    def where(self) -> list[str]:
        """Sentences that tell where to find the log."""
        return []

    def close(self) -> None:
        """Write everything and close the log."""
