"""The commands of the original training guide run unchanged in a folder like a fresh clone.

Only overrides are added: a small model, small images, few steps.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.guide import make_room, serves, small_settings
from helpers.paths import REPO
from helpers.training_guide import done, run_here

PREPARE = "python scripts/prepare_dataset.py --dataset nuscenes --data-root data/nuscenes"
TRAIN = "python scripts/train.py --config configs/training/base.yaml --data-root data/processed/nuscenes"
WANDB = "python scripts/train.py --config configs/training/base.yaml --use-wandb"
NAMED = f"{WANDB} --wandb-project world-model --wandb-name experiment-001"
DATA_PARALLEL = "python scripts/train.py --use-dp"
FOUR = "torchrun --nproc_per_node=4 scripts/train.py --config configs/training/distributed.yaml"
FIND_LR = "python scripts/find_lr.py --config configs/training/base.yaml --min-lr 1e-6 --max-lr 1e-2"

OVERRIDES = (*small_settings("base"), "logging.wandb_mode=offline")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Only the configs and scripts of a clone."""
    for name in ("configs", "scripts"):
        (tmp_path / name).symlink_to(REPO / name)
    return tmp_path


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare("road", None, tmp_path_factory.mktemp("road") / "road", (64, 64), drives=12, frames=12, workers=1)


@pytest.fixture
def with_store(clone: Path, road: Path) -> Path:
    shutil.copytree(road, clone / "data/processed/nuscenes")
    return clone


def runs_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/*-*"))


def test_nuscenes_store_has_the_size_of_the_base_model(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(PREPARE)
    make_room(words, clone)
    run_here(words, clone, monkeypatch)
    assert Store.open(clone / "data/processed/nuscenes").image_size == (256, 256)
    run_here([*shlex.split(TRAIN), *OVERRIDES, "data.sequence_length=5", "--dry-run"], clone, monkeypatch)
    output = capsys.readouterr().out
    assert "meant for 64x64 (model.decoder.init_size = 16, 2 stages)" in output


@pytest.mark.parametrize("command", [TRAIN, DATA_PARALLEL, WANDB, NAMED], ids=["data-root", "use-dp", "wandb", "named"])
def test_training(
    command: str, with_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(with_store / "home"))
    run_here([*shlex.split(command), *OVERRIDES], with_store, monkeypatch)
    output = capsys.readouterr().out
    assert ("store: data/processed/nuscenes; --data-root selects another" in output) == (command != TRAIN)
    (run,) = runs_of(with_store)
    assert run.name.startswith("base-") and (run / "checkpoints/last").is_file()
    assert bool(list(run.glob("wandb/offline-run-*"))) == ("--use-wandb" in command)


def test_missing_store_names_the_command_that_creates_it(clone: Path) -> None:
    ended = subprocess.run(
        [sys.executable, *shlex.split(DATA_PARALLEL)[1:]], cwd=clone, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no drives are given, and there is no store under data/processed")
    assert "python scripts/prepare_dataset.py --dataset NAME --data-root FOLDER" in ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_processes(with_store: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", *shlex.split(FOUR)[1:], *OVERRIDES, "training.batch_size=1"]
    process = subprocess.Popen(
        words, cwd=with_store, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output = done(process)
    assert output.count("store: data/processed/nuscenes") == 1 and "gloo is used" in output
    (run,) = runs_of(with_store)
    assert run.name.startswith("distributed-") and (run / "checkpoints/last").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_learning_rate_finder(
    with_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here([*shlex.split(FIND_LR), *OVERRIDES], with_store, monkeypatch)
    assert "store: data/processed/nuscenes" in capsys.readouterr().out
    (folder,) = with_store.glob("runs/find-lr-base-*")
    assert (folder / "find_lr.json").is_file()


@pytest.mark.slow
def test_tensorboard_serves_the_runs(with_store: Path) -> None:
    (with_store / "runs").mkdir()
    serves(["tensorboard", "--port", "0", "--logdir", "runs"], with_store)


@pytest.mark.parametrize("recipe", ["quick_prototype", "best_quality", "memory_efficient"])
def test_recipes_pass_the_checks(recipe: str, with_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = f"configs/training/recipes/{recipe}.yaml"
    run_here(["python", "scripts/train.py", "--config", file, *OVERRIDES, "--dry-run"], with_store, monkeypatch)
