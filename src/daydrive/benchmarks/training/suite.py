"""All measures of the training, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from daydrive.benchmarks.findings import Findings, Target, write
from daydrive.benchmarks.interleaved_timing import QUICK, THOROUGH
from daydrive.benchmarks.training import overhead, scaling, steps, throughput
from daydrive.benchmarks.training.workload import Workload, build_workload
from daydrive.config import load_config
from daydrive.errors import UserError
from daydrive.files import check_folder, created_parents
from daydrive.machine import describe_machine

TARGETS = {
    "step_vs_eager_fp32": Target(2.0, True, "a plain float32 loop's time for a step over ours"),
    "amp_speed": Target(1.4, True, "a step's time without mixed precision over that with it"),
    "amp_memory": Target(0.55, False, "its peak memory with mixed precision over that without"),
    "checkpointing_memory": Target(0.5, False, "a step's peak memory with gradient checkpointing over that without"),
    "checkpointing_time": Target(1.25, False, "its time with gradient checkpointing over that without"),
    "loader_wait": Target(0.05, False, "share of a step in which it waits for clips"),
    "save_stall": Target(0.01, False, "time of a checkpoint over that of the training between two"),
    "logging_cost": Target(0.02, False, "time of all logging over that of the training it tells of"),
    "ranks_2_vs_1": Target(1.85, True, "clips a second of two processes over those of one, each with a thread"),
}
EAGER_TARGET_ON_GPU = 1.8


def benchmark_training(
    output: Path,
    configs: Sequence[Path],
    data_root: Path | None,
    device: torch.device,
    quick: bool,
    say: Callable[[str], None],
) -> tuple[Findings, dict[str, Target]]:
    """Measure trainings of `configs` and write JSON: `ratios`, `targets`, `not_measured`, `machine`, `raw`.

    A ratio that each config has is there as `NAME_CONFIG`, and as NAME the worst of them, but for a step's speed: that
    of the largest model. Those of one config alone are of the largest model (gradient checkpointing, mixed precision)
    or of the smallest (two processes). Checkpoints and logs are written beside `output`, and gone afterwards.
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

        say("drives")
        workloads = [load(name) for name in names]
        for workload in workloads:
            for measured in _of_each(workload, say):
                all_found.add(measured)
        smallest, *_, largest = sorted(2 * workloads, key=lambda workload: workload.parameters)
        if device.type == "cuda":
            say(f"{largest.name}: mixed precision")
            all_found.add(steps.mixed_precision(largest))
        else:
            all_found.not_measured |= dict.fromkeys(("amp_speed", "amp_memory"), "a target for GPUs, none is used here")
        say(f"{largest.name}: gradient checkpointing")
        all_found.add(steps.gradient_checkpointing(largest))
        say(f"{smallest.name}: two processes")
        all_found.add(scaling.two_processes(smallest))
        all_found.ratios["step_vs_eager_fp32"] = all_found.ratios[f"step_vs_eager_fp32_{largest.name}"]
        sum_up(all_found, names)
        targets = targets_on(device.type)
        write(output, "training", quick, machine, all_found, targets)
    return all_found, targets


def _of_each(workload: Workload, say: Callable[[str], None]) -> Iterator[Findings]:
    """What every config has."""
    name = workload.name
    say(f"{name}: a step, ours and a plain loop's")
    stepped = steps.against_plain(workload)
    yield stepped
    say(f"{name}: training with its loader")
    yield throughput.with_loader(workload)
    whole_step = min(stepped.raw[f"step_{name}"]["seconds"]["shortest"]) / workload.share
    say(f"{name}: saving, logging")
    yield overhead.saving(workload, whole_step)
    yield overhead.logging(workload, whole_step)


def targets_on(device_type: str) -> dict[str, Target]:
    """By ratio; on a GPU the plain loop has TF32."""
    if device_type == "cpu":
        return TARGETS
    return TARGETS | {"step_vs_eager_fp32": TARGETS["step_vs_eager_fp32"]._replace(bound=EAGER_TARGET_ON_GPU)}


def sum_up(findings: Findings, names: list[str]) -> None:
    """A ratio that each of the configs `names` has also goes by its name alone: the worst of them."""
    for ratio, target in TARGETS.items():
        values = [findings.ratios[f"{ratio}_{name}"] for name in names if f"{ratio}_{name}" in findings.ratios]
        if values and ratio not in findings.ratios:
            findings.ratios[ratio] = min(values) if target.at_least else max(values)
