"""The peers in examples/: nets that are trained and dream, and pass through the same report as any model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.store.store import Store
from daydrive.evaluation import EvaluateConfig, EvaluatedModel, evaluate_model
from daydrive.evaluation.adapter import as_dream, load_adapter
from daydrive.types import Batch
from helpers.paths import REPO
from helpers.planted_predictions import CONTEXT, HORIZON, scene_store

PEERS = REPO / "examples" / "peers"
TINY: dict[str, dict[str, Any]] = {
    "rssm": {"channels": [8, 8, 8, 8], "memory": 32, "hidden": 32, "groups": 4, "classes": 4},
    "diffusion": {"context": 2, "channels": [8, 8, 8], "condition": 16},
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def peers() -> Any:
    """The module `train` of the peers, which imports both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PEERS))
        import train

        yield train
    for name in ("train", "rssm", "diffusion"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A scene of 32x48 that moves as it is steered."""
    return scene_store(tmp_path_factory.mktemp("peers"))


def small(peers: ModuleType, peer: str) -> Any:
    torch.manual_seed(0)
    return peers.PEERS[peer](image_size=(32, 48), **TINY[peer])


def clips(store: Store, length: int, count: int = 4) -> Batch:
    index = ClipIndex(store, "train", length)
    return read_clips(store, [index.clip(k) for k in range(count)])


def dreamt(adapter: Any, batch: Batch, context: int, actions: Tensor) -> Tensor:
    return as_dream(adapter)(batch.images[:, :context], actions)


@torch.no_grad()
def fixed_loss(model: Any, batch: Batch) -> float:
    """With the same noise each time; the training's own is left as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return sum(float(model.loss(batch.images, batch.actions)) for _ in range(8))


class Ticks:
    """A clock that goes on by one at each look."""

    def __init__(self) -> None:
        self.now = -1.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def saved(peers: ModuleType, model: Any, peer: str, folder: Path) -> Any:
    """The model as it comes back from a checkpoint."""
    peers.save(folder, model.state_dict(), {"settings": model.settings})
    return load_adapter(f"{PEERS / peer}.py:load", folder, CPU)


@pytest.mark.parametrize("peer", TINY)
def test_learns_for_as_long_as_the_clock_says(peers: ModuleType, store: Store, peer: str) -> None:
    model = small(peers, peer)
    batch = clips(store, 5)
    before = fixed_loss(model, batch)
    average, losses = peers.fit(model, iter(lambda: batch, None), 30, Ticks())
    assert len(losses) == 29, "one look before the first step, one before each"
    assert fixed_loss(model, batch) < 0.9 * before
    again = peers.fit(small(peers, peer), iter(lambda: batch, None), 3, Ticks())
    assert again[1][0] == losses[0], "the seed rules"
    assert average.keys() == model.state_dict().keys()


@pytest.mark.parametrize("peer", TINY)
def test_dreams_follow_actions_and_no_other_clip(peers: ModuleType, store: Store, peer: str, tmp_path: Path) -> None:
    model = small(peers, peer)
    batch = clips(store, 6)
    peers.fit(model, iter(lambda: batch, None), 20, Ticks())
    adapter = saved(peers, model, peer, tmp_path / "checkpoint")
    context = adapter.context
    dream = dreamt(adapter, batch, context, batch.actions)
    assert dream.dtype == torch.uint8 and dream.shape == (4, 6 - context, 3, 32, 48)
    assert torch.equal(dream, dreamt(adapter, batch, context, batch.actions)), "a dream is the same every time"
    alone = as_dream(adapter)(batch.images[:1, :context], batch.actions[:1])
    assert (alone.int() - dream[:1].int()).abs().max() <= 1
    other = batch.actions.clone()
    other[:, -1, 0] += 1.0
    steered = dreamt(adapter, batch, context, other)
    assert torch.equal(steered[:, :-1], dream[:, :-1]) and not torch.equal(steered[:, -1], dream[:, -1])


@pytest.mark.parametrize("peer", TINY)
def test_goes_through_the_report(peers: ModuleType, store: Store, peer: str, tmp_path: Path) -> None:
    adapter = saved(peers, small(peers, peer), peer, tmp_path / "checkpoint")
    model = EvaluatedModel(as_dream(adapter), CONTEXT)
    config = EvaluateConfig(split="val", horizon=HORIZON, clips=4)
    result = evaluate_model(model, store, tmp_path / "report", config)
    assert len(result["horizons"]) == HORIZON and (tmp_path / "report" / "report.html").is_file()


def test_command_writes_weights_without_pickle(store: Store, tmp_path: Path) -> None:
    command = [sys.executable, PEERS / "train.py", "--peer", "diffusion", "--data-root", store.path]
    subprocess.run([*command, "--minutes", "0.01", "--output", tmp_path / "out"], check=True, capture_output=True)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.json", "model.safetensors"]
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert about["steps"] >= 1 and about["parameters"] <= sum(value.numel() for value in weights.values())
    assert load_adapter(f"{PEERS / 'diffusion.py'}:load", tmp_path / "out", CPU).context >= 1


def test_command_refuses_in_a_sentence(tmp_path: Path) -> None:
    command = [
        sys.executable,
        PEERS / "train.py",
        "--peer",
        "rssm",
        "--data-root",
        tmp_path,
        "--output",
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "is not a prepared store" in done.stderr and "Traceback" not in done.stderr


def test_noise_levels_fall_as_karras_says(peers: ModuleType) -> None:
    levels = sys.modules["diffusion"].sigmas(2)
    assert levels[0] == pytest.approx(5.0) and levels[1] == pytest.approx(((5 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7)


def test_divergence_pulls_the_prior_to_the_posterior(peers: ModuleType) -> None:
    rssm = sys.modules["rssm"]
    posterior, prior = (torch.randn(2, 3, 8, 4, requires_grad=True) for _ in range(2))
    rssm.balanced(posterior.log_softmax(-1), prior.log_softmax(-1)).backward()
    assert prior.grad is not None and posterior.grad is not None
    assert prior.grad.norm() > 2 * posterior.grad.norm() > 0
