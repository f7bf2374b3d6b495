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
def opened_store(road_store: Path) -> Store:
    return Store.open(road_store)


@pytest.fixture(scope="session")
def readout(opened_store: Store) -> Readout:
    return train_readout(opened_store, steps=20)
