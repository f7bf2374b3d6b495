"""Processes that a command starts itself: the same run as one process, and all end together."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from daydrive.errors import UserError
from daydrive.local_processes import count_processes, local_processes, single_process, usable_cores
from helpers.processes import PATIENCE, command, finish, keep_only, logged, start, wait_for_checkpoint, worst_gap
from helpers.runs import same, weights
from helpers.tiny_training import TINY_TRAINING

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TWO = ("--processes", "2")
KILLS = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32, AdamW and no dropout, because random numbers differ by process."""
    tree = {
        **TINY_TRAINING,
        "model": {**TINY_TRAINING["model"], "dynamics": {"num_layers": 1, "dropout": 0.0}},
        "training": {**TINY_TRAINING["training"], "batch_size": 8, "use_amp": False, "max_steps": 16},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "logging": {"log_interval": 1, "eval_interval": 8, "save_interval": 1, "num_samples": 1},
    }
    file = tmp_path_factory.mktemp("config") / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def train(config: Path, store: Path, run: Path, *more: str, **variables: str) -> str:
    process = start([sys.executable, *command(config, store, run, *more)], **variables)
    output = finish(process)
    assert process.returncode == 0, output[-3000:]
    return output


@pytest.fixture(scope="module")
def two(config: Path, road_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two processes."""
    run = tmp_path_factory.mktemp("runs") / "two"
    output = train(config, road_store, run, *TWO)
    assert "training in 2 processes, 1 threads each" in output and output.count("TensorBoard:") == 1
    return run


def test_one_process_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daydrive.local_processes.processors", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    counts = [count_processes("auto", CPU, clips) for clips in (None, 12, 8, 5, 7, 1)]
    assert counts == [6, 6, 4, 5, 1, 1]
    assert [count_processes(asked, CPU, 8) for asked in ("1", "2", "8")] == [1, 2, 8]
    assert count_processes("auto", GPU, 8) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert (usable_cores(), count_processes("auto", CPU, 8)) == (2, 2)
    monkeypatch.setattr(sys, "gettrace", lambda: print)
    assert count_processes("auto", CPU, 8) == 1, "a debugger sees one process"
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert count_processes("auto", CPU, 8) == 1, "torchrun has started them"


@pytest.mark.parametrize(
    ("asked", "device", "world", "message"),
    [
        ("0", CPU, "1", "--processes 0: use a number from 1, or auto"),
        ("two", CPU, "1", "--processes two: use a number from 1"),
        ("3", CPU, "1", "cannot divide a batch of 8 clips evenly; use 1, 2, 4, 8 or auto"),
        ("2", GPU, "1", "for GPUs use torchrun --nproc_per_node=2"),
        ("2", CPU, "4", "torchrun and Slurm have started their processes already"),
    ],
)
def test_invalid_numbers_of_processes(
    asked: str, device: torch.device, world: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(UserError, match=message):
        count_processes(asked, device, 8)


def test_run_equals_that_of_one_process(config: Path, road_store: Path, two: Path, tmp_path: Path) -> None:
    train(config, road_store, tmp_path / "one", "--processes", "1")
    for name in ("train/loss", "val/psnr"):
        assert worst_gap(logged(two), logged(tmp_path / "one"), name) < 1e-4


@pytest.mark.slow
def test_faster_number_of_processes_is_selected(config: Path, road_store: Path, tmp_path: Path) -> None:
    """The result is printed, and the run is complete."""
    output = train(config, road_store, tmp_path / "run", OMP_NUM_THREADS="2")
    assert ("training in 2 processes: 8 short clips" in output) or ("training in one process: 8 short clips" in output)
    assert len(logged(tmp_path / "run")) == 16


@pytest.mark.slow
def test_resuming_with_the_same_and_another_number_of_processes(
    config: Path, road_store: Path, two: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start([sys.executable, *command(config, road_store, run, *TWO)])
    wait_for_checkpoint(run, 4)
    process.kill()
    finish(process)
    train(config, road_store, run, *TWO, "--resume")
    assert same(weights(run), weights(two))
    keep_only(run, 12)
    train(config, road_store, run, "--processes", "1", "--resume")
    steps = {line["step"]: line for line in logged(run)}
    assert worst_gap(list(steps.values()), logged(two), "train/loss") < 1e-4


def children(process: psutil.Process | int) -> list[psutil.Process]:
    """The other ranks, once they are there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [p for p in psutil.Process(process).children() if "run_task" in " ".join(p.cmdline())]  # type: ignore[arg-type]
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("no other process")


def ended(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=30)[1]


@pytest.mark.parametrize("victim", ["first", "other"])
def test_killed_process_ends_the_others(config: Path, road_store: Path, tmp_path: Path, victim: str) -> None:
    run = tmp_path / "run"
    process = start([sys.executable, *command(config, road_store, run, *TWO, "training.max_steps=100000")])
    others = children(process.pid)
    wait_for_checkpoint(run, 2)
    (process if victim == "first" else others[0]).kill()
    output = finish(process)
    assert ended(others)
    if victim == "other":
        assert process.returncode == 2
        (sentence,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert "ended without" in sentence and "Traceback" not in output


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_signal_saves_a_checkpoint(
    config: Path, road_store: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    process = start([sys.executable, *command(config, road_store, run, *TWO, "training.max_steps=100000")])
    others = children(process.pid)
    wait_for_checkpoint(run, 2)
    process.send_signal(number)
    output = finish(process)
    assert process.returncode == code and "--resume" in output and "Traceback" not in output
    assert ended(others)


def test_invalid_input_is_rejected_before_processes_start(
    config: Path, road_store: Path, two: Path, tmp_path: Path
) -> None:
    process = start([sys.executable, *command(config, road_store, two, *TWO)])
    output = finish(process)
    assert process.returncode == 2 and "already holds a training" in output and output.count("error:") == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_of_either_process(config: Path, road_store: Path, two: Path, tmp_path: Path) -> None:
    run, moments, kills = tmp_path / "run", random.Random(0), 0
    while True:
        resume = ["--resume"] if (run / "checkpoints" / "last").is_file() else []
        process = start([sys.executable, *command(config, road_store, run, *TWO, *resume)])
        if kills == KILLS:
            break
        victim: Callable[[], None] = process.kill if kills % 2 else children(process.pid)[0].kill
        time.sleep(moments.uniform(0.5, 6.0))
        if process.poll() is None:
            victim()
            kills += 1
        finish(process)
        if process.returncode == 0:
            keep_only(run, 1)
    output = finish(process)
    assert process.returncode == 0, output[-2000:]
    assert same(weights(run), weights(two))


def fail_before_joining() -> int:
    raise UserError("there is no such thing")


@pytest.mark.slow
def test_process_that_fails_at_start_is_reported(tmp_path: Path) -> None:
    program = (
        "import time\n"
        "from daydrive.local_processes import local_processes\n"
        "from training.test_local_ranks import fail_before_joining\n"
        "with local_processes(2, fail_before_joining):\n"
        "    time.sleep(120)\n"
    )
    process = start([sys.executable, "-c", program], PYTHONPATH=":".join(sys.path))
    output = finish(process, 90)
    assert process.returncode == 2
    assert "error: there is no such thing" in output and "process 1 of 2 ended without a result" in output


def test_single_process_sets_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with single_process():
        assert os.environ["WORLD_SIZE"] == os.environ["LOCAL_WORLD_SIZE"] == "1"
        assert torch.get_num_threads() == usable_cores()
    assert os.environ["WORLD_SIZE"] == "2" and "LOCAL_WORLD_SIZE" not in os.environ
    with local_processes(1, fail_before_joining):
        assert os.environ["WORLD_SIZE"] == "2", "one process starts nothing"
