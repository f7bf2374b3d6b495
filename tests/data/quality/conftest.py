"""Sound stores of the road world and of a recording."""

from __future__ import annotations

import pytest

from daydrive.data.prepare.prepare import prepare
from helpers.doctor import Recordings
from helpers.paths import SHARED


@pytest.fixture(scope="session")
def road(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    folder = tmp_path_factory.mktemp("doctor") / "road"
    return Recordings(prepare("road", None, folder, (64, 64), drives=12, frames=100, seed=1, workers=1), 11)


@pytest.fixture(scope="session")
def udacity(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    if not (SHARED / "udacity_track").is_dir():
        pytest.skip(f"there is no recording {SHARED / 'udacity_track'}")
    folder = tmp_path_factory.mktemp("doctor") / "udacity"
    return Recordings(prepare("udacity", SHARED / "udacity_track", folder, (64, 64), hz=10.0, workers=1), 1)


@pytest.fixture(params=["road", "udacity"])
def recordings(request: pytest.FixtureRequest) -> Recordings:
    return request.getfixturevalue(request.param)
