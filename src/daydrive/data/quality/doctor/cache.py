"""What the doctor found, kept beside `store.json`: a training asks there instead of looking again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from daydrive.data.quality.doctor.finding import Finding, worst
from daydrive.data.store.store import Store
from daydrive.files import write_json
from daydrive.locations import Location, exists, object_store_errors

FILE = "doctor.json"


def diagnosis(store: Store, findings: Sequence[Finding]) -> dict[str, Any]:
    """What is kept: of which content of the store it speaks, and the findings, the gravest first."""
    return {
        "fingerprint": store.fingerprint,
        "rows": store.rows,
        "worst": worst(findings),
        "findings": [finding.as_json() for finding in findings],
    }


def keep(folder: Location, told: dict[str, Any]) -> None:
    """Writes `doctor.json` into a folder, whole or not at all."""
    write_json(folder / FILE, told)


def kept(store: Store) -> list[Finding] | None:
    """The findings that were kept with the store; None where there are none, or they are of another content."""
    file = store.path / FILE
    try:
        if not exists(file):
            return None
        with object_store_errors(file):
            told = json.loads(file.read_text(encoding="utf-8"))
        if told["fingerprint"] != store.fingerprint:
            return None
        return [_finding(entry) for entry in told["findings"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finding(told: dict[str, Any]) -> Finding:
    frames = told["frames"]
    return Finding(
        severity=told["severity"],
        code=told["code"],
        says=told["says"],
        fix=told["fix"],
        drives=tuple(told["drives"]),
        whole=told["whole"],
        size=told["size"],
        unit=told["unit"],
        frames=None if frames is None else (frames[0], frames[1]),
        rows=tuple(told["rows"]),
    )
