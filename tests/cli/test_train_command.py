"""Starting a training from the command line: messages and files."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from daydrive.config import load_config
from daydrive.errors import UserError
from daydrive.training.distributed import DistributedContext
from daydrive.training.run import data_parallel_message
from helpers.paths import REPO


def run(here: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "scripts/train.py"), *map(str, arguments), "--device", "cpu"]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)


def test_dry_run_checks_everything_and_writes_nothing(tiny_config: Path, road_store: Path, here: Path) -> None:
    done = run(here, "--config", tiny_config, "--data-root", road_store, "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning"}
    for what in ("train clips", "64x64", "checkpoints", "forward and backward"):
        assert any(what in line for line in lines), done.stdout
    assert not list(here.iterdir())


def test_dry_run_reports_bad_data(tiny_config: Path, road_store: Path, here: Path) -> None:
    settings = [tiny_config, "--data-root", road_store, "--dry-run", "training.batch_size=500"]
    done = run(here, "--config", *settings)
    assert done.returncode == 2 and "lower training.batch_size" in done.stderr
    assert not list(here.iterdir())


def test_data_parallel_recommends_ddp(tiny_config: Path, road_store: Path, here: Path) -> None:
    done = run(here, "--config", tiny_config, "--data-root", road_store, "--use-dp", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert "DataParallel" in done.stdout and "torchrun --nproc_per_node=N" in done.stdout
    assert (here / "run/checkpoints/last").is_file()


def test_data_parallel_with_several_processes_is_rejected() -> None:
    with pytest.raises(UserError, match="--use-dp is for one process"):
        data_parallel_message(True, DistributedContext(0, 2, torch.device("cpu")))
    assert data_parallel_message(False, DistributedContext.single(torch.device("cpu"))) is None


def test_single_distributed_process_explains_torchrun(tiny_config: Path, road_store: Path, here: Path) -> None:
    settings = ["--run-dir", "run", "training.distributed=true", "training.max_steps=1"]
    done = run(here, "--config", tiny_config, "--data-root", road_store, *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("torchrun --nproc_per_node=N") == 1


def test_data_root_from_the_config(tiny_config: Path, road_store: Path, here: Path) -> None:
    done = run(here, "--config", tiny_config, "--run-dir", "run", f"data.root={road_store}", "training.max_steps=1")
    assert done.returncode == 0, done.stderr
    assert load_config(here / "run/config.yaml").data.root == road_store
