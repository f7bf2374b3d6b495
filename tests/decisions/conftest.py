"""A small store, a hardly trained model and readout, and a policy that was not learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daydrive.decisions.policy.network import Policy, PolicyInfo, PolicyNetwork

INFO = PolicyInfo(
    learned="cloning", hz=10, image_size=(64, 64), horizon=0.44, checkpoint=None, store="s", seed=0, daydrive="0"
)


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
