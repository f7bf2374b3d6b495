"""Trainings with several processes joined by gloo; every wait has a timeout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from helpers.paths import REPO

PATIENCE = 180


def command(config: Path, store: Path, run: Path, *more: str) -> list[str]:
    return [
        str(REPO / "scripts/train.py"), "--config", str(config), "--data-root", str(store), "--run-dir", str(run),
        "--device", "cpu", *more,
    ]  # fmt: skip


def torchrun(world: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world}"]


def start(arguments: list[str], **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=REPO
    )


def finish(process: subprocess.Popen[str], seconds: float = PATIENCE) -> str:
    """Its output; a process that does not end in time is killed with its children, and the test fails."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        raise AssertionError(f"not done in {seconds} s: {process.communicate()[0][-2000:]}") from None


def trained(world: int, config: Path, store: Path, run: Path, *more: str) -> list[dict[str, float]]:
    process = start([*torchrun(world), *command(config, store, run, *more)])
    output = finish(process)
    assert process.returncode == 0, output[-3000:]
    return logged(run)


def logged(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


def worst_gap(a: list[dict[str, float]], b: list[dict[str, float]], name: str) -> float:
    assert [line["step"] for line in a] == [line["step"] for line in b]
    return max(abs(x[name] - y[name]) / abs(y[name]) for x, y in zip(a, b, strict=True) if name in x)


def wait_for_checkpoint(run: Path, step: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (run / "checkpoints" / f"step-{step:08d}").is_dir():
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.02)


def keep_only(run: Path, step: int) -> None:
    """As if the kill had come before the next checkpoint."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    if not folder.is_dir():
        return
    for other in (run / "checkpoints").glob("step-*"):
        if other.name > folder.name:
            shutil.rmtree(other)
    (run / "checkpoints" / "last").write_text(folder.name + "\n")
