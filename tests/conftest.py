"""Fixtures for several tests: a small store of road drives, and settings that train in seconds."""

import contextlib
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from daydrive import cli
from daydrive.checkpoint import RolloutModel, load
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from daydrive.envs.world_model import Readout
from daydrive.envs.world_model.readout_training import train_readout
from helpers.drives import write_drive
from helpers.refusals import Refuse, check_sentence, listing
from helpers.tiny_training import TINY_TRAINING

with contextlib.suppress(ImportError):
    import setuptools  # noqa: F401  torch.compile imports it, and it refuses to come after the standard distutils


@pytest.fixture(scope="session")
def road_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drives of 24 frames at 64x64."""
    return prepare(
        "road", None, tmp_path_factory.mktemp("stores") / "road", (64, 64), drives=8, frames=24, seed=1, workers=1
    )


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    """A config file that trains in seconds."""
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY_TRAINING))
    return file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that defaults such as runs/ and data/ fall into it."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refuse(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refuse:
    """Runs the command line in this process and checks its error for invalid input."""

    def run(*arguments: object, message: str) -> None:
        before = listing(tmp_path)
        monkeypatch.setattr(sys, "argv", ["daydrive", *map(str, arguments)])
        monkeypatch.setattr("daydrive.progress.PLAIN_INTERVAL", 1e9)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        check_sentence(ended.value.code, err, message)
        assert not out.strip(), out
        assert listing(tmp_path) == before

    return run


@pytest.fixture(scope="session")
def trained(road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after two steps."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {**TINY_TRAINING, "training": {**TINY_TRAINING["training"], "max_steps": 2}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["train", "--config", folder / "tiny.yaml", "--data-root", road_store, "--run-dir", folder / "run"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["daydrive", *map(str, arguments), "--device", "cpu"])
        cli.main()
    assert ended.value.code == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def store(road_store: Path, tmp_path: Path) -> Path:
    """A copy of the store that may be damaged."""
    return shutil.copytree(road_store, tmp_path / "store")


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives of 16 frames at 32x32; train, val and test have one each."""
    folder = tmp_path_factory.mktemp("small")
    for k in range(3):
        write_drive(folder / "raw" / f"d{k}", 16)
    return prepare("folder", folder / "raw", folder / "store", (32, 32), workers=1)


@pytest.fixture(scope="session")
def world_model(trained: Path) -> RolloutModel:
    return load(trained)


@pytest.fixture(scope="session")
def opened_store(road_store: Path) -> Store:
    return Store.open(road_store)


@pytest.fixture(scope="session")
def readout(opened_store: Store) -> Readout:
    """Hardly trained."""
    return train_readout(opened_store, steps=20)


@pytest.fixture(scope="session")
def readout_file(readout: Readout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("readout") / "readout.safetensors"
    readout.save(file)
    return file
