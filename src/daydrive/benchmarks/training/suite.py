"""The training suite: all benchmarks of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from daydrive.benchmarks.findings import Findings, Target, write
from daydrive.benchmarks.interleaved_timing import QUICK, THOROUGH
from daydrive.benchmarks.training import overhead, scaling, steps, throughput
from daydrive.benchmarks.training.lanes import self_rollouts
from daydrive.benchmarks.training.workload import Workload, build_workload
from daydrive.config import load_config
from daydrive.errors import UserError
from daydrive.files import check_folder, created_parents
from daydrive.machine import describe_machine

TARGETS = {
    "step_vs_eager_fp32": Target(2.0, True, "time of a step of a plain float32 loop over daydrive's"),
    "auto_precision": Target(1.0, True, "time of a step in the number format auto does not choose over its choice"),
    "amp_speed": Target(1.4, True, "time of a step without mixed precision over that with it"),
    "amp_memory": Target(0.55, False, "peak memory of a step with mixed precision over that without"),
    "checkpointing_memory": Target(0.5, False, "peak memory of a step with gradient checkpointing over that without"),
    "checkpointing_time": Target(1.25, False, "time of a step with gradient checkpointing over that without"),
    "self_rollout_cost": Target(2.0, False, "time of a step on self-rollouts over one at the longest unroll"),
    "loader_wait": Target(0.05, False, "fraction of a step spent waiting for clips"),
    "save_stall": Target(0.01, False, "time of a checkpoint over that of the steps between two"),
    "logging_cost": Target(0.02, False, "time of all logging over that of the steps"),
    "ranks_2_vs_1": Target(1.85, True, "clips per second of two processes over one, each with one thread"),
}
EAGER_TARGET_ON_GPU = 1.8


def benchmark_training(
    output: Path,
    configs: Sequence[Path],
    data_root: Path | None,
    device: torch.device,
    quick: bool,
    log: Callable[[str], None],
) -> tuple[Findings, dict[str, Target]]:
    """Measure training with `configs` and write JSON: `ratios`, `targets`, `not_measured`, `machine`, `raw`.

    A ratio measured for each config is named `NAME_CONFIG`, and NAME is the worst of them, except for the speed of a
    step, where it is that of the largest model. The others are measured with the largest model (gradient checkpointing,
    mixed precision) or with the smallest (two processes). Temporary files are written beside `output`.
    """
    names = [config.stem for config in configs]
    if len(set(names)) < len(names):
        raise UserError(f"two configs have the same name: {', '.join(names)}")
    if output.is_dir():
        raise UserError(f"--output {output} is a folder; give a file")
    loaded = {config.stem: load_config(config) for config in configs}
    check_folder(output.absolute().parent, "output folder")
    machine = describe_machine(device)
    effort = QUICK if quick else THOROUGH
    all_found = Findings()
    with created_parents(output), TemporaryDirectory(prefix=".benchmark-", dir=output.absolute().parent) as folder:

        def load(name: str) -> Workload:
            return build_workload(name, loaded[name], data_root, Path(folder), effort, device)

        log("drives")
        workloads = [load(name) for name in names]
        for workload in workloads:
            for measured in _of_each(workload, log):
                all_found.add(measured)
        by_size = sorted(workloads, key=lambda workload: workload.parameters)
        small, large = by_size[0], by_size[-1]
        if device.type == "cuda":
            log(f"{large.name}: mixed precision")
            all_found.add(steps.mixed_precision(large))
            all_found.not_measured["auto_precision"] = "a target for CPUs"
        else:
            log(f"{small.name}: number formats")
            all_found.add(steps.automatic_precision(small))
            all_found.not_measured |= dict.fromkeys(("amp_speed", "amp_memory"), "a target for GPUs; no GPU is used")
        log(f"{large.name}: gradient checkpointing")
        all_found.add(steps.gradient_checkpointing(large))
        log(f"{small.name}: self-rollouts")
        all_found.add(self_rollouts(small))
        log(f"{small.name}: two processes")
        all_found.add(scaling.two_processes(small))
        all_found.ratios["step_vs_eager_fp32"] = all_found.ratios[f"step_vs_eager_fp32_{large.name}"]
        sum_up(all_found, names)
        targets = targets_on(device.type)
        write(output, "training", quick, machine, all_found, targets)
    return all_found, targets


def _of_each(workload: Workload, log: Callable[[str], None]) -> Iterator[Findings]:
    """The benchmarks that run for every config."""
    name = workload.name
    log(f"{name}: a step against a plain loop")
    stepped = steps.against_plain(workload)
    yield stepped
    log(f"{name}: training with its loader")
    yield throughput.with_loader(workload)
    whole_step = min(stepped.raw[f"step_{name}"]["seconds"]["shortest"]) / workload.share
    log(f"{name}: saving, logging")
    yield overhead.saving(workload, whole_step)
    yield overhead.logging(workload, whole_step)


def targets_on(device_type: str) -> dict[str, Target]:
    """Targets by ratio; on a GPU the plain loop uses TF32."""
    if device_type == "cpu":
        return TARGETS
    return TARGETS | {"step_vs_eager_fp32": TARGETS["step_vs_eager_fp32"]._replace(bound=EAGER_TARGET_ON_GPU)}


def sum_up(findings: Findings, names: list[str]) -> None:
    """Add, for each ratio measured per config, the worst value under its plain name."""
    for ratio, target in TARGETS.items():
        values = [findings.ratios[f"{ratio}_{name}"] for name in names if f"{ratio}_{name}" in findings.ratios]
        if values and ratio not in findings.ratios:
            findings.ratios[ratio] = min(values) if target.at_least else max(values)
