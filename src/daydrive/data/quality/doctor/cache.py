"""Findings of the doctor, saved next to `store.json` so that training can read them without another examination."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from daydrive.data.quality.doctor.finding import Finding, worst
from daydrive.data.store.store import Store
from daydrive.files import write_json
from daydrive.locations import Location, exists, object_store_errors

FILE = "doctor.json"
CRITERIA = 2
"""Version of what counts as fatal; findings by older criteria are not used."""


def diagnosis(store: Store, findings: Sequence[Finding]) -> dict[str, Any]:
    """The content of `doctor.json`: fingerprint of the store and the findings."""
    return {
        "criteria": CRITERIA,
        "fingerprint": store.fingerprint,
        "rows": store.rows,
        "worst": worst(findings),
        "findings": [finding.as_json() for finding in findings],
    }


def save_diagnosis(folder: Location, content: dict[str, Any]) -> None:
    """Write `doctor.json` into a folder atomically."""
    write_json(folder / FILE, content)


def load_findings(store: Store) -> list[Finding] | None:
    """Return the findings saved with the store; None without a `doctor.json`, or if the store or the criteria
    have changed since."""
    file = store.path / FILE
    try:
        if not exists(file):
            return None
        with object_store_errors(file):
            content = json.loads(file.read_text(encoding="utf-8"))
        if (content["fingerprint"], content["criteria"]) != (store.fingerprint, CRITERIA):
            return None
        return [_finding(entry) for entry in content["findings"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finding(entry: dict[str, Any]) -> Finding:
    frames = entry["frames"]
    return Finding(
        severity=entry["severity"],
        code=entry["code"],
        message=entry["says"],
        fix=entry["fix"],
        drives=tuple(entry["drives"]),
        whole=entry["whole"],
        size=entry["size"],
        unit=entry["unit"],
        frames=None if frames is None else (frames[0], frames[1]),
        rows=tuple(entry["rows"]),
    )
