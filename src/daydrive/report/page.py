"""The report as a self-contained HTML file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from daydrive.report import decision_rows, rows, sentences
from daydrive.report.rows import BASELINES
from daydrive.report.tables import format_value
from daydrive.viz.html import environment
from daydrive.viz.svg import Chart, Curve, chart_data, chart_html

FILES = (
    "rollouts.mp4", "strip.png", "worst.png", "counterfactual.png", "counterfactual.mp4", "memory.png", "samples.png",
    "long.png", "ranking.png",
)  # fmt: skip
"""Files of an evaluation's folder that the page embeds if they exist."""
CURVES: dict[str, dict[str, str]] = {
    "PSNR (dB)": {"model": "psnr", **BASELINES},
    "SSIM": {"model": "ssim", "last frame copied": "copy_last_ssim"},
    "LPIPS (lower is better)": {"model": "lpips", "last frame copied": "copy_last_lpips"},
    "Sharpness and flicker relative to real frames": {"sharpness": "sharpness", "flicker": "flicker"},
}
"""Charts: the entries of `horizons` by label."""


class Tile(NamedTuple):
    """A headline result at the top of the page."""

    name: str
    value: str
    detail: str


def report_html(evaluation: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """The text of the page. files: contents of those of `FILES` that exist, by name."""
    hz, horizons = evaluation["hz"], evaluation["horizons"]
    charts = _horizon_charts(horizons)
    spectrum = evaluation.get("spectrum")
    spectrum_charts = [_spectrum_chart(spectrum)] if spectrum and spectrum["periods"] else []
    samples = evaluation.get("samples")
    samples_charts = _samples_charts(samples) if isinstance(samples, Mapping) else []
    long = evaluation.get("long_dreams")
    long_charts = [_long_chart(long)] if long else []
    if long and "quality" in long:
        long_charts.append(_quality_chart(long["quality"]))
    lpips = [] if "lpips" in horizons[0] else [f"LPIPS: {evaluation['lpips']}."]
    templates = environment(__package__)
    templates.filters |= {"anchor": _anchor, "format_value": format_value}
    return templates.get_template("report.html").render(
        evaluation=evaluation,
        title=str(evaluation.get("name") or "Evaluation"),
        subtitle=f"{sentences.headline(evaluation)}; {len(evaluation['held'])} held-out drives",
        tiles=_tiles(evaluation),
        notes=[*evaluation["notes"], *lpips],
        scores=evaluation.get("controllability"),
        long=long,
        compared=evaluation.get("compared", {}),
        rows=rows,
        decision_rows=decision_rows,
        sentences=sentences,
        files={name: files.get(name) for name in FILES},
        clip_seconds=(evaluation["context"] + len(horizons)) / hz,
        horizon_charts=[chart_html(chart) for chart in charts],
        spectrum_chart=chart_html(spectrum_charts[0]) if spectrum_charts else None,
        samples_charts=[chart_html(chart) for chart in samples_charts],
        long_charts=[chart_html(chart) for chart in long_charts],
        data={
            "hz": hz,
            "charts": [chart_data(c) for c in [*charts, *spectrum_charts, *samples_charts, *long_charts]],
        },
    )


def _anchor(title: str) -> str:
    """The id of a section, for links."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _tiles(evaluation: Mapping[str, Any]) -> list[Tile]:
    bounds, seconds = evaluation["usable_seconds_interval"], len(evaluation["horizons"]) / evaluation["hz"]
    interval = f"95 % CI: {bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else "no interval for a single drive"
    detail = f"{interval}; {seconds:.1f} s predicted"
    tiles = [Tile("usable seconds", f"{evaluation['usable_seconds']:.2f}", detail)]
    if "realistic_seconds" in evaluation:
        bounds = evaluation["realistic_seconds_interval"]
        detail = f"95 % CI: {bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else "no interval for a single drive"
        tiles.append(Tile("realistic seconds", f"{evaluation['realistic_seconds']:.2f}", detail))
    if "controllability" in evaluation:
        scores = evaluation["controllability"]
        passed = f"{scores['mark']['passed']} of {scores['mark']['of']} checks passed"
        tiles.append(Tile("controllability", scores["verdict"], passed))
    if "long_dreams" in evaluation:
        last = evaluation["long_dreams"]["lengths"][-1]
        detail = f"after {last['steps'] / evaluation['hz']:.0f} s; {last['ms_per_frame']:.0f} ms per frame"
        tiles.append(Tile("long rollouts", last["verdict"], detail))
    return tiles


def _horizon_charts(horizons: Sequence[Mapping[str, Any]]) -> list[Chart]:
    steps = [entry["step"] for entry in horizons]
    charts = []
    for name, labels in CURVES.items():
        present = {label: entry for label, entry in labels.items() if entry in horizons[0]}
        curves = [Curve(label, [h[entry] for h in horizons]) for label, entry in present.items()]
        if curves:
            first = next(iter(present.values()))
            curves[0] = curves[0]._replace(bounds=[h[f"{first}_interval"] for h in horizons])
            charts.append(Chart(name, steps, curves, 1.0 if first == "sharpness" else None))
    return charts


def _spectrum_chart(spectrum: Mapping[str, Any]) -> Chart:
    labels = [f"{low} to {high} px" for low, high in spectrum["periods"]]
    curves = [Curve(label, values) for label, values in zip(labels, spectrum["by_step"], strict=True)]
    return Chart("Power relative to real frames (dB)", range(1, len(curves[0].values) + 1), curves, 0.0)


def _samples_charts(samples: Mapping[str, Any]) -> list[Chart]:
    count, horizons = samples["count"], samples["horizons"]
    charts = {
        "PSNR (dB)": {
            "deterministic": "deterministic_psnr", f"mean image of {count}": "mean_image_psnr",
            "one sample": "single_psnr", f"best of {count}": "best_psnr",
        },
        "Spread and error (grey levels of 255)": {"spread": "spread", "error of the mean image": "error"},
    }  # fmt: skip
    steps = [entry["step"] for entry in horizons]
    return [
        Chart(name, steps, [Curve(label, [h[entry] for h in horizons]) for label, entry in curves.items()])
        for name, curves in charts.items()
    ]


def _quality_chart(quality: Mapping[str, Any]) -> Chart:
    horizons = quality["horizons"]
    names = ("brightness", "contrast", "sharpness", "change")
    curves = [Curve(name, [entry[name] for entry in horizons]) for name in names]
    return Chart("By horizon, relative to real frames", [entry["steps"] for entry in horizons], curves, 1.0)


def _long_chart(long: Mapping[str, Any]) -> Chart:
    curves = [Curve(name, values) for name, values in long["curves"].items() if name != "steps"]
    return Chart("Relative to the real drive", long["curves"]["steps"], curves, 1.0)
