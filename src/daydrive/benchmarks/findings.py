"""What was measured, and what it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from daydrive.files import write_json


class Target(NamedTuple):
    """bound: None for what is only told, to compare with."""

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
    """The outcome as JSON: `ratios` is flat, everything else says what they are and where they come from."""
    text = {"suite": suite, "quick": quick, "machine": machine, "ratios": findings.ratios}
    text |= {"targets": outcomes(findings, targets), "not_measured": findings.not_measured, "raw": findings.raw}
    write_json(output, text)
