"""A small store, a hardly trained model and readout, and a policy that was not learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daydrive.checkpoint import RolloutModel, load
from daydrive.data.store.store import Store
from daydrive.decisions.policy.network import Policy, PolicyInfo, PolicyNetwork
from daydrive.envs.world_model import Readout
from daydrive.envs.world_model.readout_training import train_readout

INFO = PolicyInfo(
    learned="cloning", hz=10, image_size=(64, 64), horizon=0.44, checkpoint=None, store="s", seed=0, daydrive="0"
)


@pytest.fixture(scope="session")
def world_model(trained: Path) -> RolloutModel:
    return load(trained)


@pytest.fixture(scope="session")
def opened_store(road_store: Path) -> Store:
    return Store.open(road_store)


@pytest.fixture(scope="session")
def readout(opened_store: Store) -> Readout:
    return train_readout(opened_store, steps=20)


@pytest.fixture(scope="session")
def readout_file(readout: Readout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("readout") / "readout.safetensors"
    readout.save(file)
    return file


@pytest.fixture(scope="session")
def policy() -> Policy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Policy(PolicyNetwork(0.44), INFO)


@pytest.fixture
def policy_file(policy: Policy, tmp_path: Path) -> Path:
    file = tmp_path / "policy.safetensors"
    policy.save(file)
    return file
