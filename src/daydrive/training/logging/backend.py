"""The seam between a run and the places that its figures go to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from daydrive.training.logging.histograms import Histogram
from daydrive.types import Image


class Backend:
    """One place for figures. What it can't show it leaves out: every method does nothing unless overridden."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Figures by name; steps only grow."""

    def image(self, step: int, name: str, image: Image) -> None:
        """image: uint8 (H, W, 3)."""

    def video(self, step: int, name: str, gif: bytes, size: tuple[int, int]) -> None:
        """gif: a whole animated GIF; size: its height and width in pixels."""

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """How values are spread, by name."""

    def checkpoint(self, step: int, folder: Path, aliases: list[str]) -> None:
        """A checkpoint was written to `folder`, and is known as each of `aliases`."""

    def note(self, step: int, text: str) -> None:
        """A sentence that a person has to read."""

    def state(self) -> dict[str, str | int]:
        """Brings everything logged so far to the disk, and says what the checkpoint should keep."""
        return {}

    def where(self) -> list[str]:
        """Sentences for people: where to look."""
        return []

    def close(self) -> None:
        """Brings everything to where it belongs and lets go."""
