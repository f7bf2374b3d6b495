"""`metrics.jsonl`, a line per step, and `alarms.jsonl`: the record that other logs can be restored from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from daydrive.files import write_text
from daydrive.training.logging.backend import Backend

METRICS, ALARMS = "metrics.jsonl", "alarms.jsonl"


class Row(NamedTuple):
    step: int
    values: dict[str, float]


class JsonlLog(Backend):
    """Opened at `step`, it removes later lines, and a line that a killed process left incomplete.

    A metric that is not finite is written as null, since JSON cannot represent it.
    """

    def __init__(self, run: Path, step: int) -> None:
        for name in (METRICS, ALARMS):
            _truncate_after(run / name, step)
        self._metrics = (run / METRICS).open("ab", buffering=0)
        self._alarms = run / ALARMS
        self._last = step

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        assert step > self._last, f"step {step} logged after {self._last}"
        self._last = step
        values_or_null = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.write(_line({"step": step, **values_or_null}))

    def note(self, step: int, text: str) -> None:
        with self._alarms.open("ab", buffering=0) as file:
            file.write(_line({"step": step, "alarm": text}))

    def state(self) -> dict[str, str | int]:
        os.fsync(self._metrics.fileno())
        return {"step": self._last}

    def close(self) -> None:
        self._metrics.close()


def read_rows(run: Path, step: int) -> list[Row]:
    """The metrics that `run` logged up to `step`; null becomes NaN."""
    rows = []
    for _, record in _complete_lines(run / METRICS, step):
        values = {name: math.nan if value is None else value for name, value in record.items() if name != "step"}
        rows.append(Row(record["step"], values))
    return rows


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _truncate_after(file: Path, step: int) -> None:
    if file.is_file():
        write_text(file, "".join(line for line, _ in _complete_lines(file, step)))


def _complete_lines(file: Path, step: int) -> list[tuple[str, dict[str, Any]]]:
    """The complete lines up to `step`, as text and as records."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    records = [(line, _record(line)) for line in lines]
    return [(line, record) for line, record in records if record is not None and record["step"] <= step]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if line.endswith("\n") and isinstance(record, dict) and "step" in record else None
