"""A finding of the doctor and its severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["note", "warning", "fatal"]

EXIT_CODES: dict[Severity, int] = {"note": 0, "warning": 1, "fatal": 3}
"""2 is reserved for bad input."""


@dataclass(frozen=True)
class Curve:
    """Data of a line chart: y over x by label. marks: labelled positions on the x axis."""

    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float, ...]]
    marks: Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """A problem found in a store.

    code: kind of problem. message: one sentence with the evidence. fix: recommended action. drives: affected drives.
    whole: whether the whole store is affected. size: magnitude in `unit`, or None. frames: first and last frame in the
    first drive. rows: example rows of the store. curve: the measurement.
    """

    severity: Severity
    code: str
    message: str
    fix: str
    drives: tuple[str, ...] = ()
    whole: bool = False
    size: float | None = None
    unit: str = ""
    frames: tuple[int, int] | None = None
    rows: tuple[int, ...] = ()
    curve: Curve | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding without its curve, as in `doctor.json`."""
        entry = asdict(self)
        del entry["curve"]
        entry["says"] = entry.pop("message")
        if self.size is not None:
            entry["size"] = round(self.size, 4)
        return entry


def worst(findings: Sequence[Finding]) -> Severity | None:
    """The highest severity, or None without findings."""
    severities = {finding.severity for finding in findings}
    return next((severity for severity in reversed(EXIT_CODES) if severity in severities), None)


def sorted_by_severity(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -EXIT_CODES[finding.severity])


def drives_text(drives: Sequence[str], of: int | None = None) -> str:
    """`drive 'a'`, `drives 'a' and 'b'`, `5 drives ('a', 'b', …)`, or `all 5 drives` if `of` is their number."""
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
