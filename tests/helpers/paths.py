"""Where things are: the repository, its tests, and the recordings beside it that not everyone has."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
REPO = TESTS.parent
SHARED = REPO.parent / "shared" / "data"
UDACITY = SHARED / "udacity_track"
