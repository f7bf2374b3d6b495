"""Evaluation with several processes: the metrics equal those of one process, and a failure in one ends all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from daydrive.evaluation import EvaluateConfig, evaluate
from daydrive.workspace import PLAN, partial
from helpers.paths import REPO
from helpers.refusals import damage_images

PATIENCE = 500

SLOW = """
import time
import torch

class Slow:
    context = 2
    def reset(self, context):
        self.last = context.images[:, -1]
    def step(self, action):
        time.sleep(0.2)
        return self.last

def load(checkpoint, device):
    return Slow()
"""


def start(arguments: Sequence[object]) -> list[subprocess.Popen[str]]:
    """Starts two processes with the environment variables of a distributed launch, one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, str(REPO / "scripts/evaluate.py"), *map(str, arguments), "--device", "cpu"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPO,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
        )
        for rank in range(2)
    ]  # fmt: skip


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Their output. Processes that do not end in time are killed, and the test fails."""
    try:
        return [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
def test_two_processes_give_the_same_metrics_as_one(trained: Path, road_store: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = evaluate(trained, road_store, tmp_path / "alone", EvaluateConfig(split="val", horizon=5, clips=19))
    finally:
        torch.set_num_threads(threads)
    out = tmp_path / "out"
    options = ("--checkpoint", trained, "--data-root", road_store, "--output", out)
    processes = start([*options, "--split", "val", "--horizon", 5, "--clips", 19])
    outputs = finish(processes)
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert str(out / "report.html") in outputs[0].replace("\n", "") and not outputs[1].strip()
    together = json.loads((out / "evaluation.json").read_text())
    for evaluation in (alone, together):
        del evaluation["manifest"]["code"]  # someone may be editing it
    assert together == alone
    for name in ("frame_metrics.npz", "predictions.npz"):
        with np.load(tmp_path / "alone" / name) as one, np.load(out / name) as two:
            assert one.files == two.files
            assert all(np.array_equal(one[array], two[array]) for array in one.files), name
    for name in ("strip.png", "worst.png", "rollouts.mp4"):
        assert (tmp_path / "alone" / name).read_bytes() == (out / name).read_bytes(), name
    assert not partial(out).exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_local_processes_share_all_suites(trained: Path, road_store: Path, tmp_path: Path) -> None:
    """The scorecard, the counterfactual branches and the long rollouts too: the same results but for timings."""
    config = EvaluateConfig(
        split="val", horizon=5, clips=8, predictions=2, counterfactual=True, controllability=True, long=True
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = [evaluate(trained, road_store, tmp_path / n, config, processes=n) for n in ("1", "2")]
    finally:
        torch.set_num_threads(threads)
    for result in results:
        del result["manifest"]["code"]
        for name in ("later_cost", "cost_is_flat"):
            del result["long_dreams"][name]
        for entry in result["long_dreams"]["lengths"]:
            del entry["ms_per_frame"]
    assert results[0] == results[1]
    for name in ("counterfactual.png", "long.png", "strip.png"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


@pytest.mark.slow
def test_bad_data_ends_all_processes_with_one_sentence(trained: Path, road_store: Path, tmp_path: Path) -> None:
    store = shutil.copytree(road_store, tmp_path / "store")
    damage_images(store, "val")
    options = ("--checkpoint", trained, "--data-root", store, "--output", tmp_path / "out", "--split", "val")
    processes = start([*options, "--horizon", 5, "--clips", 19])
    outputs = finish(processes)
    assert [process.returncode for process in processes] == [2, 2], outputs
    assert "".join(outputs).count("error: ") == 1 and "damaged image" in "".join(outputs)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, {2, 130}), (signal.SIGKILL, {2, -9})])
def test_killed_process_ends_all_and_the_command_resumes(
    trained: Path, road_store: Path, tmp_path: Path, number: signal.Signals, codes: set[int]
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    weights = tmp_path / "weights"
    weights.write_bytes(b"of the slow one")
    out = tmp_path / "out"
    options = ("--checkpoint", weights, "--adapter", f"{tmp_path / 'slow.py'}:load", "--data-root", road_store)
    command = [*options, "--output", out, "--split", "val", "--horizon", 10, "--clips", 16]
    processes = start(command)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (partial(out) / PLAN).is_file():
            assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
            time.sleep(0.05)
        processes[1].send_signal(number)
    finally:
        outputs = finish(processes)
    assert {process.returncode for process in processes} <= codes, outputs
    assert "".join(outputs).count("error: ") <= 1 and not out.exists()
    assert not any(psutil.pid_exists(process.pid) for process in processes)
    processes = start(command)
    outputs = finish(processes)
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert not partial(out).exists() and (out / "evaluation.json").is_file()
