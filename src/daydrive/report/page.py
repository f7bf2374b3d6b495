"""The report as one HTML file that opens without a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from daydrive.report import rows
from daydrive.report.distribution import distribution_html
from daydrive.report.markdown import (
    FLOORS,
    difference_rows,
    headline,
    made_from,
    shown_steps,
    slice_rows,
    usable_sentence,
)
from daydrive.report.sentences import about_branches, about_memory, about_the_end
from daydrive.report.tables import html_table, said, with_interval
from daydrive.viz.html import address, embedded_json, filled
from daydrive.viz.svg import Chart, Curve, chart_data, chart_html

TEMPLATE = Path(__file__).with_name("templates") / "report.html"
FILES = ("rollouts.mp4", "strip.png", "worst.png", "counterfactual.png", "counterfactual.mp4", "memory.png", "long.png")
"""What the page shows of an evaluation's folder, as far as it is there."""
CURVES: dict[str, dict[str, str]] = {
    "PSNR, dB": {"dream": "psnr", **FLOORS},
    "SSIM": {"dream": "ssim", "last frame copied": "copy_last_ssim"},
    "LPIPS, less is nearer": {"dream": "lpips", "last frame copied": "copy_last_lpips"},
    "Detail and change, real = 1": {"sharpness": "sharpness", "flicker": "flicker"},
}


class Section(NamedTuple):
    """content: HTML."""

    title: str
    content: str


def report_html(evaluation: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """The whole text of the page. files: those of `FILES`, by name."""
    charts = _horizon_charts(evaluation["horizons"])
    far = [_long_chart(evaluation["long_dreams"])] if "long_dreams" in evaluation else []
    sections = [
        Section("How far ahead", _far_ahead(charts, evaluation)),
        Section("Real, dream, difference", _films(evaluation, files)),
        Section("The worst clips", _picture(files, "worst.png", "The clips with the least margin over copying")),
        *_card(evaluation, files),
        *_long(evaluation, far, files),
        Section("As a whole", distribution_html(evaluation["distribution"])),
        Section("By kind of clip", html_table(*slice_rows(evaluation["slices"]), "Figures by kind of clip")),
        *(_compared(evaluation, folder, each) for folder, each in evaluation.get("compared", {}).items()),
        Section("Made from", _made_from(evaluation)),
    ]
    title = str(evaluation.get("name") or "Evaluation")
    parts = {
        "TITLE": escape(title),
        "TOLD": escape(f"{headline(evaluation)}; {len(evaluation['held'])} drives it never saw"),
        "TILES": _tiles(evaluation),
        "NOTES": "".join(f"<p>{escape(note)}</p>" for note in [*evaluation["notes"], *_lpips(evaluation)]),
        "LINKS": "".join(f'<a href="#{_place(s.title)}">{escape(s.title)}</a> ' for s in sections),
        "SECTIONS": "\n".join(
            f'<section id="{_place(s.title)}"><h2>{escape(s.title)}</h2>\n{s.content}\n</section>' for s in sections
        ),
        "DATA": embedded_json({"hz": evaluation["hz"], "charts": [chart_data(chart) for chart in [*charts, *far]]}),
    }
    return filled(TEMPLATE, parts)


def _place(title: str) -> str:
    """What a link to a section names."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def _tiles(evaluation: Mapping[str, Any]) -> str:
    """The few things to know first."""
    bounds, horizon = evaluation["usable_seconds_interval"], len(evaluation["horizons"]) / evaluation["hz"]
    sure = f"95 %: {bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else "one drive only, so no interval"
    tiles = [("usable seconds", f"{evaluation['usable_seconds']:.2f}", f"{sure}; {horizon:.1f} were dreamt")]
    if "card" in evaluation:
        mark = evaluation["card"]["mark"]
        tiles.append(
            (
                "does it obey its driver?",
                evaluation["card"]["verdict"],
                f"{mark['passed']} of {mark['of']} checks passed",
            )
        )
    if "long_dreams" in evaluation:
        last = evaluation["long_dreams"]["lengths"][-1]
        after = f"after {last['steps'] / evaluation['hz']:.0f} s; {last['ms_per_frame']:.0f} ms a frame"
        tiles.append(("a long dream of it", last["verdict"], after))
    return "".join(
        f"<li><small>{escape(what)}</small><strong>{escape(value)}</strong><small>{escape(more)}</small></li>"
        for what, value, more in tiles
    )


def _horizon_charts(horizons: Sequence[Mapping[str, Any]]) -> list[Chart]:
    steps = [entry["step"] for entry in horizons]
    charts = []
    for name, labels in CURVES.items():
        there = {label: entry for label, entry in labels.items() if entry in horizons[0]}
        curves = [Curve(label, [h[entry] for h in horizons]) for label, entry in there.items()]
        if curves:
            first = next(iter(there.values()))
            curves[0] = curves[0]._replace(bounds=[h[f"{first}_interval"] for h in horizons])
            charts.append(Chart(name, steps, curves, 1.0 if first == "sharpness" else None))
    return charts


def _far_ahead(charts: Sequence[Chart], evaluation: Mapping[str, Any]) -> str:
    columns = {"PSNR": "psnr", **FLOORS, "SSIM": "ssim", "sharpness": "sharpness", "flicker": "flicker"}
    table = [
        [f"+{h['step']}", *(with_interval(h[name], h[f"{name}_interval"]) for name in columns.values())]
        for h in shown_steps(evaluation)
    ]
    return (
        f"<p>{escape(usable_sentence(evaluation))}</p>"
        f'<div class="charts">{"".join(map(chart_html, charts))}</div>'
        '<p class="faint">Means over clips; the band is the first curve\'s 95 % interval by bootstrap over drives. '
        "Move over a chart, or focus it and use ← →.</p>"
        + html_table(["steps ahead", *columns], table, "Figures beside their floors, with intervals")
    )


def _films(evaluation: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    said = (
        "A few clips, evenly chosen: the context as recorded, then what really came, the dream, and how far apart they "
        "are; below them what the driver does: wheel, throttle (T), brake (B), gear."
    )
    each = (evaluation["context"] + len(evaluation["horizons"])) / evaluation["hz"]
    return _film(files, "rollouts.mp4", said, each) + _picture(
        files, "strip.png", "Real, dreamt and copied pictures of a few clips, step by step"
    )


def _film(files: Mapping[str, bytes], name: str, said: str, each: float | None = None) -> str:
    """each: seconds of a clip in it, for buttons that go there."""
    if name not in files:
        return ""
    jump = "" if each is None else f' data-each="{each:.4f}"'
    return (
        f'<figure><video controls loop muted playsinline preload="auto" aria-label="{escape(said)}"{jump} '
        f'src="{address("video/mp4", files[name])}"></video><figcaption>{escape(said)}</figcaption></figure>'
    )


def _picture(files: Mapping[str, bytes], name: str, said: str) -> str:
    if name not in files:
        return ""
    return (
        f'<figure><div class="scroll" tabindex="0" role="region" aria-label="{escape(said)}">'
        f'<img alt="{escape(said)}" src="{address("image/png", files[name])}"></div>'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )


def _card(evaluation: Mapping[str, Any], files: Mapping[str, bytes]) -> list[Section]:
    """The checks and what is behind them; the branches; the memory."""
    found = []
    forks = _picture(files, "counterfactual.png", "One moment, three commands: the world's own futures and the dream's")
    forks += _film(files, "counterfactual.mp4", "The same as a film")
    if "card" in evaluation:
        card = evaluation["card"]
        content = [
            f"<p>It <strong>{escape(card['verdict'])}</strong>.</p>",
            html_table(*rows.checks(card), "Checks of the report card"),
            f"<h3>What other actions cost</h3><p>PSNR against the true actions, mean over {card['clips']} clips and "
            f"{card['steps']} steps.</p>",
            html_table(*rows.costs(card), "What other actions cost"),
            "<h3>Motion read back from the pictures</h3><p>Against what was commanded; how well the estimators do is "
            "seen on the real frames.</p>",
            html_table(*rows.egomotion(card["egomotion"]), "Motion read back from the pictures"),
        ]
        found.append(Section("Does it obey its driver?", "".join(content)))
        if card["branches"] is not None:
            told = f"<p>{escape(about_branches(card['branches']))}</p>"
            forks = told + html_table(*rows.branches(card["branches"]), "The dreams of each branch") + forks
    if forks:
        found.append(Section("What really would have happened", forks))
    clips = evaluation.get("card", {}).get("nearest_training_clips")
    if clips:
        told = f"<p>{escape(about_memory(clips))}</p>" + html_table(*rows.memories(clips), "Nearest training clips")
        shown = _picture(files, "memory.png", "Dreams, the training clips nearest to them, and what really came")
        found.append(Section("Is it a memory?", told + shown))
    return found


def _long_chart(long: Mapping[str, Any]) -> Chart:
    curves = {name: values for name, values in long["curves"].items() if name != "steps"}
    name = "Shares of the real drive's, real = 1"
    return Chart(name, long["curves"]["steps"], [Curve(*curve) for curve in curves.items()], 1.0)


def _long(evaluation: Mapping[str, Any], charts: Sequence[Chart], files: Mapping[str, bytes]) -> list[Section]:
    if "long_dreams" not in evaluation:
        return []
    long = evaluation["long_dreams"]
    content = (
        html_table(*rows.long_dreams(long, evaluation["hz"]), "Long dreams")
        + f'<p class="faint">{escape(about_the_end(long))}</p>'
        + f'<div class="charts">{"".join(map(chart_html, charts))}</div>'
        + _picture(files, "long.png", "The last real frame and what becomes of the dream")
    )
    return [Section("Long dreams", content)]


def _compared(evaluation: Mapping[str, Any], folder: str, difference: Mapping[str, Any]) -> Section:
    table = html_table(["this minus that", "difference [95 %]"], difference_rows(evaluation, difference))
    return Section(f"Against {difference['name'] or folder}", table)


def _made_from(evaluation: Mapping[str, Any]) -> str:
    lines = [f"<dt>{escape(name)}</dt><dd>{escape(said(value))}</dd>" for name, value in made_from(evaluation).items()]
    return f"<dl>{''.join(lines)}</dl>"


def _lpips(evaluation: Mapping[str, Any]) -> list[str]:
    return [] if "lpips" in evaluation["horizons"][0] else [f"LPIPS: {evaluation['lpips']}."]
