"""All measures of the training, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from daydrive.benchmarks.findings import Findings, Target, write
from daydrive.benchmarks.interleaved_timing import QUICK, THOROUGH
from daydrive.benchmarks.training import overhead as overhead
from daydrive.benchmarks.training import scaling as ranks
from daydrive.benchmarks.training import steps, throughput
from daydrive.benchmarks.training.targets import sum_up, targets_on
from daydrive.benchmarks.training.workload import Workload, build_workload
from daydrive.config import load_config
from daydrive.errors import UserError
from daydrive.files import check_folder, parents_made
from daydrive.machine import describe_machine


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
    with parents_made(output), TemporaryDirectory(prefix=".benchmark-", dir=output.absolute().parent) as folder:

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
        all_found.add(ranks.two_processes(smallest))
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
