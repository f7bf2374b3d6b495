"""Weak scaling from one process to two, each with one thread and the same number of clips."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from daydrive.benchmarks.findings import Findings
from daydrive.benchmarks.training.workload import Workload
from daydrive.config import as_tree
from daydrive.errors import UserError
from daydrive.files import read_json, write_json
from daydrive.processor import processors

TIMEOUT = 1800
"""Seconds."""

STEPS = 3


def two_processes(workload: Workload) -> Findings:
    """`ranks_2_vs_1`: clips per second of two processes (torchrun with gloo, on GPUs nccl) over those of one process
    that trains alone while the other waits; measured in turn, at the longest unroll. In the raw figures also
    of two processes that train at once without exchanging gradients, which lose to shared caches and memory alone."""
    gpus = torch.cuda.device_count() if workload.device.type == "cuda" else 0
    device = "cuda" if gpus > 1 else "cpu"
    if device == "cpu" and processors() < 2:
        return Findings(not_measured={"ranks_2_vs_1": "two processes need two processors"})
    task, answer = workload.folder / "ranks.json", workload.folder / "ranks-answer.json"
    frames = workload.lengths[1]
    tree = as_tree(workload.setup.config)
    tree["training"] |= {"distributed": True, "backend": "auto", "strategy": "ddp", "gradient_accumulation": 1}
    write_json(
        task, {"config": tree, "frames": frames, "rounds": workload.effort.rounds, "steps": STEPS, "device": device}
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "daydrive.benchmarks.training.rank_worker", str(task), str(answer)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise UserError(f"two processes did not finish within {TIMEOUT} s") from None
    if done.returncode:
        raise UserError(f"two processes failed: {done.stderr.strip().splitlines()[-1] if done.stderr else ''}")
    seconds = read_json(answer, "seconds of the processes")
    clips = workload.setup.config.training.batch_size * STEPS
    single, apart, both = (
        count * clips / min(seconds[name]) for name, count in (("alone", 1), ("apart", 2), ("together", 2))
    )
    raw = {
        "config": workload.name,
        "device": device,
        "frames": frames,
        "clips_of_a_process": workload.setup.config.training.batch_size,
        "steps": STEPS,
        "seconds": seconds,
        "clips_a_second": {"1": single, "2": both, "2 apart": apart},
    }
    return Findings({"ranks_2_vs_1": both / single}, {"ranks": raw})
