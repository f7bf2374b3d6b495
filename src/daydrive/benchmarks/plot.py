"""A benchmark in one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from daydrive.benchmarks.findings import Findings, Target, target_of
from daydrive.viz.charts import COLOURS, FAINT, drawn, dress, lines, new_figure
from daydrive.viz.images import write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(path: Path, findings: Findings, targets: dict[str, Target]) -> None:
    """Ratios beside their targets and, where models were measured, how long they take and how many frames they give."""
    against = {name: value for name, value in findings.ratios.items() if target_of(name, targets).bound}
    tall = max(2.2, 0.3 * len(against) + 1.2)
    if "dreams" not in findings.raw:
        figure = new_figure(8, tall)
        _against_targets(figure.subplots(), against, targets)
    else:
        dreams = findings.raw["dreams"]
        top = max(3.4, 0.34 * len(dreams) + 1.4)
        figure = new_figure(13, top + tall)
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=(top, tall))
        left, middle, right = above.subplots(1, 3)
        _waits(left, dreams, findings.raw["hz"])
        trained = [entry for entry in findings.raw["frames_per_second"] if not entry.get("untrained")]
        _by_batch(middle, trained, findings.raw["hz"])
        _by_size(right, findings.raw["frames_per_second"], dreams[0]["name"], findings.raw["hz"])
        _against_targets(below.subplots(), against, targets)
    write_png(path, drawn(figure))


def _waits(axis: Axes, dreams: list[dict[str, Any]], hz: float) -> None:
    """Medians of the first and the next frames as marks, up to the 99th of a hundred as a line."""
    for kind, colour, marker, shift in (("next", COLOURS[0], "o", -0.13), ("first", COLOURS[1], "s", 0.13)):
        middle = [row[f"{kind}_frame_ms_p50"] for row in dreams]
        worst = [row[f"{kind}_frame_ms_p99"] for row in dreams]
        places = [i + shift for i in range(len(dreams))]
        axis.hlines(places, middle, worst, color=colour, linewidth=2)
        axis.plot(middle, places, marker, color=colour, markersize=6, label=f"{kind} frame, line to p99")
    axis.axvline(1e3 / hz, color=FAINT, linestyle=(0, (1, 2)), label=f"real time, {hz:g} Hz")
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_yticks(range(len(dreams)), [f"{row['name']}, {row['device']}" for row in dreams])
    axis.set_ylim(len(dreams) - 0.4, -0.6)
    dress(axis, "a frame of one dream, ms", grid="x")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.1))


def _by_batch(axis: Axes, entries: list[dict[str, Any]], hz: float) -> None:
    entries = [entry for entry in entries if "frames_per_second" in entry]
    labels = list(dict.fromkeys((entry["name"], entry["device"]) for entry in entries))
    for label, line in zip(labels, lines(len(labels)), strict=True):
        own = [entry for entry in entries if (entry["name"], entry["device"]) == label]
        axis.plot(
            [entry["batch"] for entry in own], [entry["frames_per_second"] for entry in own],
            color=line.colour, linestyle=line.dash, marker=line.marker, label=", ".join(label),
        )  # fmt: skip
    batches = sorted({entry["batch"] for entry in entries})
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.set_xlabel("dreams at once", color=FAINT)
    _frames_axis(axis, "frames a second, by batch", hz)


def _by_size(axis: Axes, entries: list[dict[str, Any]], name: str, hz: float) -> None:
    entries = [entry for entry in entries if "frames_per_second" in entry and entry["name"] == name]
    labels = list(dict.fromkeys((entry["batch"], entry["device"]) for entry in entries))
    for label, line in zip(labels, lines(len(labels)), strict=True):
        own = sorted(
            (entry["image_size"][0] * entry["image_size"][1], entry["frames_per_second"], entry["image_size"])
            for entry in entries
            if (entry["batch"], entry["device"]) == label
        )
        axis.plot(
            [pixels for pixels, *_ in own], [frames for _, frames, _ in own],
            color=line.colour, linestyle=line.dash, marker=line.marker, label=f"{label[0]} at once, {label[1]}",
        )  # fmt: skip
    sizes = {h * w: f"{h}x{w}" for h, w in (entry["image_size"] for entry in entries)}
    axis.set_xscale("log")
    axis.set_xticks(list(sizes), list(sizes.values()))
    axis.minorticks_off()
    axis.set_xlabel("pictures; untrained but for the model's own size", color=FAINT)
    _frames_axis(axis, f"frames a second of {name}, by size", hz)


def _frames_axis(axis: Axes, title: str, hz: float) -> None:
    from matplotlib.ticker import LogLocator

    axis.axhline(hz, color=FAINT, linestyle=(0, (1, 2)), label="real time")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    dress(axis, title)
    axis.legend(frameon=False, fontsize=8)


def _against_targets(axis: Axes, ratios: dict[str, float], targets: dict[str, Target]) -> None:
    """Each as a part of its target, turned so that more is better."""
    names = sorted(ratios, reverse=True)
    for place, name in enumerate(names):
        target = target_of(name, targets)
        assert target.bound
        share = ratios[name] / target.bound if target.at_least else target.bound / max(ratios[name], 1e-9)
        met = bool(target.met(ratios[name]))
        axis.plot(
            [1, share], [place, place], color=COLOURS[0 if met else 1], linewidth=2, linestyle="-" if met else ":"
        )
        axis.plot(share, place, "o" if met else "X", color=COLOURS[0 if met else 1], markersize=7)
        axis.annotate(
            f"{ratios[name]:.3g} ({target})", (share, place), (8 if share >= 1 else -8, 0), textcoords="offset points",
            va="center", ha="left" if share >= 1 else "right", fontsize=8,
        )  # fmt: skip
    axis.axvline(1, color=FAINT, linewidth=1.2)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.margins(x=0.25)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) - 0.4)
    dress(axis, "ratios, as multiples of their targets: right of the line is met", grid="x")
