"""What became of the recorded frames of a source: which are left out of the store, why, and what would keep them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from daydrive.data.kinematics import clock
from daydrive.types import Drive


@dataclass
class LeftOut:
    """Frames left out for one reason. remedy: what would keep them, '' if nothing. first: where the first one is."""

    reason: str
    frames: int = 0
    places: int = 0
    """Number of contiguous pieces, rows or files that they are in."""
    remedy: str = ""
    first: str = ""

    def __str__(self) -> str:
        places = f" ({self.places} places)" if 1 < self.places < self.frames else ""
        first = f", {'the first in ' if self.frames > 1 else ''}{self.first}" if self.first else ""
        return f"{self.frames} {self.reason}{places}{first}{f'; {self.remedy}' if self.remedy else ''}"


@dataclass
class FrameCounts:
    """recorded: number of frames that the recordings have. repeated: number of additional times that a frame is used.
    notes: sentences about what else was noticed, without the full stop."""

    recorded: int = 0
    repeated: int = 0
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, frames: int, reason: str, remedy: str = "", first: str = "", places: int = 1) -> None:
        """Count frames that no drive has. first: file and row, for reasons that concern single rows."""
        if frames > 0:
            entry = self.left_out.setdefault(reason, LeftOut(reason, remedy=remedy, first=first))
            entry.frames += frames
            entry.places += places

    def usable(
        self,
        runs: Sequence[clock.Indices],
        recorded: int,
        hz: float,
        gap: float | None = None,
        remedy: str = "",
        shortest: float = clock.MIN_RUN_SECONDS,
    ) -> list[tuple[int, clock.Indices]]:
        """Number and frames of the runs that last at least `shortest` seconds; counts what they leave out.

        runs: of `clock.resample` at `hz` with the same `gap`, s, from `recorded` frames. remedy: what would keep
        frames that are left out because of gaps.
        """
        limit = 2.0 / hz if gap is None else gap
        used = [len(np.unique(run)) for run in runs]
        long = [(number, run) for number, run in enumerate(runs) if len(run) >= max(2.0, shortest * hz)]
        self.repeated += sum(len(run) - used[number] for number, run in long)
        short = [used[number] for number, run in enumerate(runs) if len(run) < max(2.0, shortest * hz)]
        length = f"{shortest:g} s" if shortest > 0.0 else "2 frames"
        reason = f"in pieces shorter than {length} between gaps of more than {limit:.3g} s"
        self.leave_out(sum(short), reason, remedy, places=len(short))
        self.leave_out(recorded - sum(used), f"not needed at {hz:g} Hz", places=recorded - sum(used))
        return long

    def multiply(self, cameras: int) -> None:
        """Count each frame once for each of the cameras that recorded it."""
        self.recorded *= cameras
        self.repeated *= cameras
        for entry in self.left_out.values():
            entry.frames *= cameras

    def why_none(self) -> str:
        """The end of an error message: why no frames are left."""
        reasons = ", ".join(str(entry) for entry in self._by_size()[:3])
        return f": of {self.recorded} frames, {reasons}" if reasons else f": it has {self.recorded} frames"

    def report(self, stored: int) -> list[str]:
        """Lines about a store with `stored` frames."""
        entries, shown = self._by_size(), max(self.recorded, stored)
        left_out = sum(entry.frames for entry in entries)
        repeated = f", {self.repeated} of them repeated" if self.repeated else ""
        lines = [f"frames: {self.recorded} recorded, {stored} in the store{repeated}, {left_out} left out"]
        lines += [f"  left out: {entry}" for entry in entries]
        if self.repeated > 0.1 * shown:
            lines.append("  the recordings are in part slower than the store; a lower --hz repeats fewer frames")
        return lines + [f"  {note}" for note in self.notes]

    def metadata(self, stored: int) -> dict[str, Any]:
        """The entry of `store.json`."""
        left_out = [asdict(entry) for entry in self._by_size()]
        counted = {"recorded": self.recorded, "stored": stored, "repeated": self.repeated}
        return {**counted, "left_out": left_out, "notes": self.notes}

    def _by_size(self) -> list[LeftOut]:
        return sorted(self.left_out.values(), key=lambda entry: -entry.frames)


class CountedDrives(list[Drive]):
    """The drives of a source, with what became of the recorded frames."""

    def __init__(self, drives: Iterable[Drive], counts: FrameCounts) -> None:
        super().__init__(drives)
        self.counts = counts


def counts_of(drives: Sequence[Drive]) -> FrameCounts | None:
    """What a source counted; None for a source that does not count."""
    return drives.counts if isinstance(drives, CountedDrives) else None


def frames_of(drives: Iterable[Drive]) -> int:
    """Number of frames of drives, as far as it is known in advance."""
    return sum(drive.length or 0 for drive in drives)
