"""What was measured, and what it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.table import Table


class Target(NamedTuple):
    bound: float
    at_least: bool
    what: str

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:g}"


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


@dataclass
class Findings:
    """ratios: by name, `NAME_CONFIG` where each config has one. raw: seconds and bytes behind them.

    not_measured: why, by the name of the ratio.
    """

    ratios: dict[str, float] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        self.ratios |= other.ratios
        self.raw |= other.raw
        self.not_measured |= other.not_measured

    def sum_up(self, names: list[str]) -> None:
        """A ratio that each of the configs `names` has also goes by its name alone: the worst of them."""
        for ratio, target in TARGETS.items():
            values = [self.ratios[f"{ratio}_{name}"] for name in names if f"{ratio}_{name}" in self.ratios]
            if values and ratio not in self.ratios:
                self.ratios[ratio] = min(values) if target.at_least else max(values)


def targets_on(device_type: str) -> dict[str, Target]:
    """By ratio; on a GPU the plain loop has TF32."""
    if device_type == "cpu":
        return TARGETS
    return TARGETS | {"step_vs_eager_fp32": TARGETS["step_vs_eager_fp32"]._replace(bound=EAGER_TARGET_ON_GPU)}


def target_of(ratio: str, targets: dict[str, Target]) -> Target:
    """That of `NAME` or `NAME_CONFIG`."""
    return targets[max((name for name in targets if ratio.startswith(name)), key=len)]


def outcomes(findings: Findings, targets: dict[str, Target]) -> dict[str, dict[str, Any]]:
    """By ratio: what it is, its target, and whether that is met."""
    of = {name: target_of(name, targets) for name in findings.ratios}
    return {
        name: {"what": of[name].what, "target": str(of[name]), "met": of[name].met(value)}
        for name, value in findings.ratios.items()
    }


def table(findings: Findings, targets: dict[str, Target]) -> Table:
    shown = Table("ratio", "measured", "target", "outcome")
    for name in sorted(findings.ratios | findings.not_measured):
        target = target_of(name, targets)
        if name in findings.not_measured:
            shown.add_row(name, "", str(target), f"not measured: {findings.not_measured[name]}")
        else:
            value = findings.ratios[name]
            shown.add_row(name, f"{value:.3g}", str(target), "met" if target.met(value) else "[red]missed")
    return shown
