"""Benchmark results as one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from daydrive.benchmarks.findings import Findings, Target, target_of
from daydrive.viz.charts import COLOURS, FAINT, line_styles, new_figure, render_figure, style_axis
from daydrive.viz.images import write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(path: Path, findings: Findings, targets: dict[str, Target]) -> None:
    """Draw ratios against their targets and, if models were measured, their latency and throughput."""
    against = {name: value for name, value in findings.ratios.items() if target_of(name, targets).bound}
    tall = max(2.2, 0.3 * len(against) + 1.2)
    if "dreams" not in findings.raw:
        figure = new_figure(8, tall)
        _against_targets(figure.subplots(), against, targets)
    else:
        models = findings.raw["dreams"]
        top = max(3.4, 0.34 * len(models) + 1.4)
        figure = new_figure(13, top + tall)
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(top, tall))
        left, middle, right = above.subplots(1, 3)
        _latencies(left, models, findings.raw["hz"])
        trained = [entry for entry in findings.raw["frames_per_second"] if not entry.get("untrained")]
        _by_batch(middle, trained, findings.raw["hz"])
        _by_size(right, findings.raw["frames_per_second"], models[0]["name"], findings.raw["hz"])
        _against_targets(below.subplots(), against, targets)
    write_png(path, render_figure(figure))


def _latencies(axis: Axes, models: list[dict[str, Any]], hz: float) -> None:
    """Latency of the first and of later frames: the median as a marker with a line to the 99th percentile."""
    for kind, colour, marker, shift in (("next", COLOURS[0], "o", -0.13), ("first", COLOURS[1], "s", 0.13)):
        middle = [row[f"{kind}_frame_ms_p50"] for row in models]
        worst = [row[f"{kind}_frame_ms_p99"] for row in models]
        heights = [i + shift for i in range(len(models))]
        axis.hlines(heights, middle, worst, color=colour, linewidth=2)
        axis.plot(middle, heights, marker, color=colour, markersize=6, label=f"{kind} frame, line to p99")
    axis.axvline(1e3 / hz, color=FAINT, linestyle=(0, (1, 2)), label=f"real time, {hz:g} Hz")
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_yticks(range(len(models)), [f"{row['name']}, {row['device']}" for row in models])
    axis.set_ylim(len(models) - 0.4, -0.6)
    style_axis(axis, "latency of a frame, ms", grid="x")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.1))


def _by_batch(axis: Axes, entries: list[dict[str, Any]], hz: float) -> None:
    entries = [entry for entry in entries if "frames_per_second" in entry]
    labels = list(dict.fromkeys((entry["name"], entry["device"]) for entry in entries))
    for label, line in zip(labels, line_styles(len(labels)), strict=True):
        own = [entry for entry in entries if (entry["name"], entry["device"]) == label]
        axis.plot(
            [entry["batch"] for entry in own], [entry["frames_per_second"] for entry in own],
            color=line.colour, linestyle=line.dash, marker=line.marker, label=", ".join(label),
        )  # fmt: skip
    batches = sorted({entry["batch"] for entry in entries})
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.set_xlabel("batch size", color=FAINT)
    _frames_axis(axis, "frames per second by batch size", hz)


def _by_size(axis: Axes, entries: list[dict[str, Any]], name: str, hz: float) -> None:
    entries = [entry for entry in entries if "frames_per_second" in entry and entry["name"] == name]
    labels = list(dict.fromkeys((entry["batch"], entry["device"]) for entry in entries))
    for label, line in zip(labels, line_styles(len(labels)), strict=True):
        own = sorted(
            (entry["image_size"][0] * entry["image_size"][1], entry["frames_per_second"], entry["image_size"])
            for entry in entries
            if (entry["batch"], entry["device"]) == label
        )
        axis.plot(
            [pixels for pixels, *_ in own], [frames for _, frames, _ in own],
            color=line.colour, linestyle=line.dash, marker=line.marker, label=f"batch {label[0]}, {label[1]}",
        )  # fmt: skip
    sizes = {h * w: f"{h}x{w}" for h, w in (entry["image_size"] for entry in entries)}
    axis.set_xscale("log")
    axis.set_xticks(list(sizes), list(sizes.values()))
    axis.minorticks_off()
    axis.set_xlabel("image size; untrained weights except at the model's own size", color=FAINT)
    _frames_axis(axis, f"frames per second of {name} by image size", hz)


def _frames_axis(axis: Axes, title: str, hz: float) -> None:
    from matplotlib.ticker import LogLocator

    axis.axhline(hz, color=FAINT, linestyle=(0, (1, 2)), label="real time")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    style_axis(axis, title)
    axis.legend(frameon=False, fontsize=8)


def _against_targets(axis: Axes, ratios: dict[str, float], targets: dict[str, Target]) -> None:
    """Ratios relative to their targets, inverted where necessary so that higher is better."""
    names = sorted(ratios, reverse=True)
    for row, name in enumerate(names):
        target = target_of(name, targets)
        assert target.bound
        share = ratios[name] / target.bound if target.at_least else target.bound / max(ratios[name], 1e-9)
        met = bool(target.met(ratios[name]))
        axis.plot([1, share], [row, row], color=COLOURS[0 if met else 1], linewidth=2, linestyle="-" if met else ":")
        axis.plot(share, row, "o" if met else "X", color=COLOURS[0 if met else 1], markersize=7)
        axis.annotate(
            f"{ratios[name]:.3g} ({target})", (share, row), (8 if share >= 1 else -8, 0), textcoords="offset points",
            va="center", ha="left" if share >= 1 else "right", fontsize=8,
        )  # fmt: skip
    axis.axvline(1, color=FAINT, linewidth=1.2)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.margins(x=0.25)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) - 0.4)
    style_axis(axis, "ratios relative to their targets; met to the right of the line", grid="x")
