"""Sound stores for planted faults, and findings without notes."""

from __future__ import annotations

from pathlib import Path

from daydrive.data.quality.doctor.finding import Finding
from daydrive.data.store.store import Store
from helpers.planted_faults import features_of

STEERING = {"steering-inverted", "steering-or-camera"}
CAMERA = {"camera-mirrored", "steering-or-camera"}
"""Codes of the findings about a sign."""


class Recordings:
    """A sound store, the features of its drives, and the index of the drive for planted faults."""

    def __init__(self, path: Path, index: int) -> None:
        self.store, self.index = Store.open(path), index
        self.drives = features_of(self.store)
        self.drive = self.drives[index]


def without_notes(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity != "note"]


def one(findings: list[Finding], *codes: str) -> Finding:
    """The only finding besides notes, which is of one of these kinds."""
    (finding,) = without_notes(findings)
    assert finding.code in codes, finding
    assert "\n" not in finding.message and finding.fix
    return finding
