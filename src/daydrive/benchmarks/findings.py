"""Benchmark results with their targets, as a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from daydrive.files import write_json


class Target(NamedTuple):
    """A target for a ratio. bound: None for a ratio without target, reported for comparison only."""

    bound: float | None
    at_least: bool
    what: str

    def met(self, value: float) -> bool | None:
        if self.bound is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return "" if self.bound is None else f"{'>=' if self.at_least else '<='} {self.bound:g}"


@dataclass
class Findings:
    """Benchmark results.

    ratios: by name, `NAME_CONFIG` if measured for each config. raw: the seconds and bytes behind them. not_measured:
    reasons by name of the ratio.
    """

    ratios: dict[str, float] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        self.ratios |= other.ratios
        self.raw |= other.raw
        self.not_measured |= other.not_measured


def target_of(ratio: str, targets: dict[str, Target]) -> Target:
    """The target of the ratio `NAME` or `NAME_CONFIG`."""
    return targets[max((name for name in targets if ratio.startswith(name)), key=len)]


def outcomes(findings: Findings, targets: dict[str, Target]) -> dict[str, dict[str, Any]]:
    """Description, target and whether it is met, by ratio."""
    found = {name: target_of(name, targets) for name in findings.ratios}
    return {
        name: {"what": found[name].what, "target": str(found[name]), "met": found[name].met(value)}
        for name, value in findings.ratios.items()
    }


OUTCOMES = {True: "met", False: "[red]missed", None: ""}


def table(findings: Findings, targets: dict[str, Target]) -> Table:
    shown = Table("ratio", "measured", "target", "outcome")
    for name in sorted(findings.ratios | findings.not_measured):
        target = target_of(name, targets)
        if name in findings.not_measured:
            shown.add_row(name, "", str(target), f"not measured: {findings.not_measured[name]}")
        else:
            value = findings.ratios[name]
            shown.add_row(name, f"{value:.3g}", str(target), OUTCOMES[target.met(value)])
    return shown


def write(
    output: Path, suite: str, quick: bool, machine: dict[str, Any], findings: Findings, targets: dict[str, Target]
) -> None:
    """Write the results as JSON: `ratios` is flat; the other keys describe them and their origin."""
    text = {"suite": suite, "quick": quick, "machine": machine, "ratios": findings.ratios}
    text |= {"targets": outcomes(findings, targets), "not_measured": findings.not_measured, "raw": findings.raw}
    write_json(output, text)
