"""What the doctor says of a fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["note", "warning", "fatal"]

EXIT_CODES: dict[Severity, int] = {"note": 0, "warning": 1, "fatal": 3}
"""2 stays bad input."""


@dataclass(frozen=True)
class Curve:
    """Lines for a figure: y over x by label; marks: places on the x axis."""

    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]
    marks: Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """code: kind of fault. says: one sentence with the evidence. fix: what to do. drives: where; all of them: `whole`.

    size: how large, in `unit`; None where a fault has none. frames: first and last in the first drive. rows: of the
    store, to be looked at. curve: the measurement.
    """

    severity: Severity
    code: str
    says: str
    fix: str
    drives: tuple[str, ...] = ()
    whole: bool = False
    size: float | None = None
    unit: str = ""
    frames: tuple[int, int] | None = None
    rows: tuple[int, ...] = ()
    curve: Curve | None = None

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        del told["curve"]
        if self.size is not None:
            told["size"] = round(self.size, 4)
        return told


def worst(findings: Sequence[Finding]) -> Severity | None:
    """The gravest of them, None where there is none."""
    there = {finding.severity for finding in findings}
    return next((severity for severity in reversed(EXIT_CODES) if severity in there), None)


def sorted_by_severity(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -EXIT_CODES[finding.severity])


def named(drives: Sequence[str], of: int | None = None) -> str:
    """`drive 'a'`, `drives 'a' and 'b'`, `5 drives ('a', 'b', …)`; all of them: `all 5 drives`."""
    if of is not None and len(drives) == of and of > 1:
        return f"all {of} drives"
    quoted = [f"'{name}'" for name in drives]
    if len(quoted) == 1:
        return f"drive {quoted[0]}"
    if len(quoted) == 2:
        return f"drives {quoted[0]} and {quoted[1]}"
    return f"{len(quoted)} drives ({', '.join(quoted[:2])}, …)"


def frames_text(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"
