"""How conclusive the image motion of drives is about their steering.

Correlations of short drives, and of cars that stand, crash or are carried, are often large by chance, also with the
wrong sign. They are conclusive only if there are enough turns of a moving car, and if pieces of the drives, each of
which is judged on its own, agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from daydrive.data.quality.doctor.correlate import (
    MIN_FRAMES,
    Correlogram,
    commanded_turn,
    correlation,
    image_turn,
    pooled,
)
from daydrive.data.quality.doctor.features import DriveFeatures
from daydrive.data.quality.doctor.readings import Flags

TURN, TURN_SHARE = 0.05, 0.25
"""Steering that counts as a turn; a share of the largest steering of the drive if that is less."""
PIECE_SECONDS, MIN_PIECE = 4.0, 20
"""Length of a piece in s, and at least in frames."""
CERTAIN, CORRELATED, TURNS, PIECES, AGREEING = 6.0, 0.3, 60, 5, 0.85
"""From these standard errors, correlation, frames with turns, number of pieces and share of agreeing pieces on,
evidence is conclusive."""
SUGGESTIVE_TURNS, SUGGESTIVE_AGREEING = 20, 0.5
"""From these frames with turns and share of agreeing pieces on, evidence is worth a warning."""


LOOK = "first compare the images with the wheel in `daydrive data show`"
"""What to do about a finding that is not conclusive."""


class Evidence(NamedTuple):
    """correlation, certainty: of the pooled correlogram. turns: frames of a moving car with turns. pieces: their
    number. agreeing: share of the pieces, weighted by their turns, whose correlation has the same sign at that lag."""

    correlation: float
    certainty: float
    turns: int
    pieces: int
    agreeing: float

    @property
    def conclusive(self) -> bool:
        """Whether the evidence is beyond reasonable doubt."""
        return (
            self.certainty >= CERTAIN
            and abs(self.correlation) >= CORRELATED
            and self.turns >= TURNS
            and self.pieces >= PIECES
            and self.agreeing >= AGREEING
        )

    def conclusive_beside(self, rest: Evidence | None) -> bool:
        """Whether the evidence of a single drive, that it differs from the rest, is beyond reasonable doubt."""
        return rest is not None and rest.conclusive and self.pieces > 1 and self.agreeing == 1.0

    @property
    def suggestive(self) -> bool:
        """Whether the evidence is worth a warning."""
        return self.turns >= SUGGESTIVE_TURNS and self.pieces >= 1 and self.agreeing >= SUGGESTIVE_AGREEING

    @property
    def doubt(self) -> str:
        """The end of a message that is not conclusive: how sure it is."""
        return (
            f" (not certain: {self.certainty:.1f} standard errors, {self.turns} frames with turns, {self.agreeing:.0%} "
            f"of {self.pieces} pieces agree)"
        )


def evidence_of(drives: Sequence[DriveFeatures], found: Mapping[str, Correlogram]) -> Evidence | None:
    """The evidence of the drives that have a correlogram in `found`; None if there are none."""
    used = [drive for drive in drives if drive.name in found]
    if not used:
        return None
    together = pooled([found[drive.name] for drive in used])
    lag = together.best - together.reach
    signs, weights = [], []
    for drive in used:
        for sign, weight in _pieces(drive, lag):
            signs.append(sign)
            weights.append(weight)
    agreeing = np.average(np.array(signs) == np.sign(together.peak), weights=weights) if sum(weights) > 0 else 0.0
    turns = sum(int(turning(drive).sum()) for drive in used)
    return Evidence(together.peak, together.certainty, turns, len(signs), float(agreeing))


def turning(drive: DriveFeatures) -> Flags:
    """(N-1,) whether the car moves and is steered away from straight between consecutive frames."""
    _, known = image_turn(drive)
    steering = np.abs(np.where(np.isfinite(drive.steering), drive.steering, 0.0))
    return np.asarray(known & (steering[:-1] > min(TURN, TURN_SHARE * steering.max())))


def _pieces(drive: DriveFeatures, lag: int) -> Iterator[tuple[float, float]]:
    """Sign and weight of the correlation of each piece of a drive at a lag."""
    command, (image, known) = commanded_turn(drive), image_turn(drive)
    length = max(MIN_PIECE, round(PIECE_SECONDS * drive.hz))
    for start in range(0, max(1, len(command) - length // 2), length):
        first = max(start, -lag)
        last = min(start + length, len(command) - max(lag, 0))
        if last - first < MIN_FRAMES:
            continue
        a, b = command[first:last], image[first + lag : last + lag]
        both = np.isfinite(a) & known[first + lag : last + lag]
        if both.sum() < MIN_FRAMES:
            continue
        r = correlation(a[both], b[both])
        if r != 0.0:
            yield float(np.sign(r)), float(both.sum() * a[both].std())
