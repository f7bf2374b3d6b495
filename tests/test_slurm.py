"""The Slurm script with a simulated Slurm: two tasks, a warning before the time limit, and requeueing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from daydrive import checkpoint
from helpers.paths import REPO
from helpers.tiny_training import TINY_TRAINING

SCRIPT = REPO / "scripts/slurm/train.sbatch"
PATIENCE = 180
JOB = str(os.getpid())

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_STEP_NUM_TASKS=$SLURM_NTASKS SLURM_STEP_NUM_NODES=$SLURM_NNODES \\
        SLURM_STEP_ID=0 SLURM_STEP_NODELIST=127.0.0.1 "$@" &
    tasks+=($!)
done
for task in "${tasks[@]}"; do
    wait "$task"
    code=$?
    ((code > worst)) && worst=$code
done
exit "${worst:-0}"
"""
"""Starts the tasks of one node and exits with the largest of their exit codes, as Slurm does."""

SCONTROL = """#!/bin/bash
case $1 in
    requeue) echo "$2" >> requeued ;;
esac
"""


def test_script_is_valid_shell_with_slurm_options() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    asked = [line.removeprefix("#SBATCH ") for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"--signal=USR1@120", "--requeue", "--ntasks-per-node=4", "--gpus-per-node=4"} <= set(asked)


@pytest.mark.slow
def test_job_with_two_tasks_resumes_after_its_time_limit(road_store: Path, tmp_path: Path) -> None:
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "scripts").symlink_to(REPO / "scripts")
    training = {**TINY_TRAINING["training"], "distributed": True, "backend": "nccl", "max_steps": 100_000}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY_TRAINING, "training": training}))
    settings = ["logging.log_interval=1", "logging.save_interval=100000", "logging.eval_interval=100000"]
    command = ["bash", str(SCRIPT), "runs/large", "--config", "tiny.yaml", "--data-root", str(road_store)]
    run = tmp_path / "runs/large"

    job = start([*command, "--device", "cpu", *settings], tmp_path)
    deadline = time.monotonic() + PATIENCE
    while len(logged(run)) < 2:
        assert time.monotonic() < deadline and job.poll() is None, "no second step"
        time.sleep(0.05)
    tasks = [p for p in psutil.Process(job.pid).children(recursive=True) if "scripts/train.py" in p.cmdline()[1:2]]
    assert len(tasks) == 2
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
    output = job.communicate(timeout=PATIENCE)[0]
    assert job.returncode == 138, output
    assert (tmp_path / "requeued").read_text() == f"{JOB}\n"
    stopped = checkpoint.read_state(checkpoint.find(run, "last"))
    assert stopped["world"] == 2 and stopped["step"] == logged(run)[-1]

    until = f"training.max_steps={stopped['step'] + 2}"
    job = start([*command, "--device", "cpu", *settings, until, "--allow-change"], tmp_path)
    output = job.communicate(timeout=PATIENCE)[0]
    assert job.returncode == 0, output
    assert logged(run) == list(range(1, stopped["step"] + 3))
    assert (tmp_path / "requeued").read_text() == f"{JOB}\n"


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    """As Slurm does: in the folder of the submission, with the variables of a job of one node."""
    slurm = {"SLURM_JOB_ID": JOB, "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NTASKS": "2", "SLURM_NNODES": "1"}
    path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, **slurm, "PATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def logged(run: Path) -> list[int]:
    """The logged steps."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


@pytest.fixture(autouse=True)
def _no_leftovers() -> object:
    """Processes of a failed test are ended."""
    yield
    for child in psutil.Process().children(recursive=True):
        if "scripts/train.py" in child.cmdline():
            child.kill()
