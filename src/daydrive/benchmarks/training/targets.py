"""What the figures of a training should be."""

from __future__ import annotations

from daydrive.benchmarks.findings import Findings, Target

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
