"""A world model of the road, and a readout, small and hardly trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from daydrive.checkpoint import RolloutModel, load
from daydrive.data.store.store import Store
from daydrive.envs.world_model import Readout
from daydrive.envs.world_model.readout_training import train_readout


@pytest.fixture(scope="session")
def world_model(trained: Path) -> RolloutModel:
    return load(trained)


@pytest.fixture(scope="session")
def readout_file(road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("readout") / "readout.safetensors"
    train_readout(Store.open(road_store), steps=20).save(file)
    return file


@pytest.fixture(scope="session")
def readout(readout_file: Path) -> Readout:
    return Readout.load(readout_file)
