"""Starting trainings and reading their output, for several tests."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from daydrive import checkpoint
from daydrive.config import load_config
from daydrive.training.context import TrainOptions
from daydrive.training.distributed import DistributedContext
from daydrive.training.trainer import train

CPU = torch.device("cpu")


def run_training(
    config_file: Path, store: Path, run: Path, *overrides: str, resume: bool = False, allow_change: bool = False
) -> int:
    """Train in this process, into a folder that may not exist yet."""
    run.mkdir(parents=True, exist_ok=True)
    return train(
        load_config(config_file, overrides),
        store,
        run,
        DistributedContext.single(CPU),
        TrainOptions(resume, allow_change),
    )


def start(config: Path, store: Path, run: Path, *overrides: str, resume: bool = False) -> subprocess.Popen[bytes]:
    """Start a training in another process."""
    command = [sys.executable, "-m", "daydrive", "train", "--config", str(config), "--data-root", str(store)]
    command += ["--run-dir", str(run), "--device", "cpu", *(["--resume"] if resume else []), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def wait_for_step(process: subprocess.Popen[bytes], run: Path, step: int) -> None:
    """Wait until a line of `step` or later is logged, or the process ends."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").is_file() else []
        if lines and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.02)


def weights(run: Path, name: str = checkpoint.WEIGHTS) -> dict[str, torch.Tensor]:
    """Weights of the last checkpoint; empty for a missing file."""
    file = checkpoint.find(run, "last") / name
    return load_file(file) if file.is_file() else {}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def logged(run: Path) -> list[dict[str, float]]:
    """Metrics by step, without times and system metrics."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in lines if "alarm" not in line]
