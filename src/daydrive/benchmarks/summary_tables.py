"""Results of the model benchmark as tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table

from daydrive.benchmarks.findings import Findings
from daydrive.report.tables import MISSING


def tables(findings: Findings) -> list[Table]:
    """Tables of costs and of throughput; none if no model was measured."""
    if "dreams" not in findings.raw:
        return []
    return [_models(findings), _frames_per_second(findings.raw["frames_per_second"])]


def _models(findings: Findings) -> Table:
    """One column per model and device."""
    hz = findings.raw["hz"]
    shown = Table(title=f"rollout with batch size 1, context from {findings.raw['seen']}", title_justify="left")
    shown.add_column("")
    for row in findings.raw["dreams"]:
        shown.add_column(f"{row['name']}\n{row['device']}", justify="right")
    metrics: list[tuple[str, Callable[[dict[str, Any]], float | None]]] = [
        ("first frame, ms: minimum", lambda row: row["first_frame_ms_min"]),
        ("  median", lambda row: row["first_frame_ms_p50"]),
        ("  99 of 100 within", lambda row: row["first_frame_ms_p99"]),
        ("next frames, ms: minimum", lambda row: row["next_frame_ms_min"]),
        ("  median", lambda row: row["next_frame_ms_p50"]),
        ("  99 of 100 within", lambda row: row["next_frame_ms_p99"]),
        ("  CPU time", lambda row: row["next_frame_processor_ms_p50"]),
        ("frames per second", lambda row: 1e3 / row["next_frame_ms_p50"]),
        (f"times real time, {hz:g} Hz", lambda row: 1e3 / row["next_frame_ms_p50"] / hz),
        ("GFLOP per frame", lambda row: _scaled(row.get("frame_flops"), 1e9)),
        ("million parameters", lambda row: _scaled(row.get("parameters"), 1e6)),
        ("memory, MiB", lambda row: _scaled(peak_memory(row), 2**20)),
        ("energy per frame, J", lambda row: row.get("joules")),
    ]
    for name, metric in metrics:
        shown.add_row(name, *(_short(metric(row)) for row in findings.raw["dreams"]))
    return shown


def peak_memory(row: dict[str, Any]) -> int | None:
    """Peak memory in bytes: on the CPU of a separate process, on a GPU weights plus peak allocation of a rollout."""
    if "resident_bytes" in row:
        return int(row["resident_bytes"])
    if "working_bytes" in row:
        return int(row["working_bytes"]) + int(row.get("weight_bytes", 0))
    return None


def _frames_per_second(entries: list[dict[str, Any]]) -> Table:
    """One row per model, device and image size, one column per batch size."""
    batches = sorted({entry["batch"] for entry in entries if "batch" in entry})
    shown = Table(title="frames per second, all clips of a batch together", title_justify="left")
    shown.add_column("model")
    shown.add_column("device")
    shown.add_column("images")
    for batch in batches:
        shown.add_column(f"batch {batch}", justify="right")
    rows: dict[tuple[str, str, str], dict[int, str]] = {}
    for entry in entries:
        height, width = entry["image_size"]
        images = f"{height}x{width}" + (", untrained" if entry.get("untrained") else "")
        cells = rows.setdefault((entry["name"], entry["device"], images), {})
        for batch in [entry["batch"]] if "batch" in entry else batches:
            cells[batch] = entry.get("reason") or _short(entry["frames_per_second"])
    for labels, cells in rows.items():
        shown.add_row(*labels, *(cells.get(batch, MISSING) for batch in batches))
    return shown


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _short(value: float | None) -> str:
    """Three significant digits without an exponent."""
    if value is None:
        return MISSING
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
