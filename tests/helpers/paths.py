"""Paths of the repository, its tests, and optional recordings beside it."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
REPO = TESTS.parent
SHARED = REPO.parent / "shared" / "data"
UDACITY = SHARED / "udacity_track"
