"""The report as one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from daydrive.evaluation.report import (
    FLOORS,
    difference_rows,
    headline,
    made_from,
    shown_steps,
    usable_sentence,
    verdict_sentence,
)
from daydrive.evaluation.tables import html_table, said, with_interval
from daydrive.pages import address, embedded_json, filled

TEMPLATE = Path(__file__).with_name("report.html")
CHARTS: dict[str, dict[str, str]] = {
    "PSNR, dB": {"dream": "psnr", **FLOORS},
    "SSIM": {"dream": "ssim", "last frame copied": "copy_last_ssim"},
    "LPIPS, less is nearer": {"dream": "lpips", "last frame copied": "copy_last_lpips"},
    "Detail and change, real = 1": {"sharpness": "sharpness", "flicker": "flicker"},
}
WIDTH, HEIGHT = 1000, 300


def report_html(evaluation: Mapping[str, Any], film: bytes, pictures: Mapping[str, bytes]) -> str:
    """The whole text of the page. film: an MP4; pictures: PNGs by their caption."""
    horizons = evaluation["horizons"]
    charts = [
        (name, {label: entry for label, entry in curves.items() if entry in horizons[0]})
        for name, curves in CHARTS.items()
    ]
    charts = [(name, curves) for name, curves in charts if curves]
    title = evaluation.get("name") or "Evaluation"
    parts = {
        "TITLE": escape(str(title)),
        "TOLD": escape(f"{headline(evaluation)}; {len(evaluation['held'])} drives it never saw"),
        "USABLE": escape(usable_sentence(evaluation)),
        "NOTES": "".join(f"<p>{escape(note)}</p>" for note in [*evaluation["notes"], *_lpips(evaluation)]),
        "CHARTS": "\n".join(_chart(name, curves, horizons) for name, curves in charts),
        "FILM": address("video/mp4", film),
        "PICTURES": "\n".join(_picture(caption, png) for caption, png in pictures.items()),
        "TABLE": _table(evaluation),
        "SLICES": _slices(evaluation["slices"]),
        "CARD": _card(evaluation["card"]) if "card" in evaluation else "",
        "VERDICT": f'<p class="big">{escape(verdict_sentence(evaluation))}</p>' if "card" in evaluation else "",
        "COMPARED": "".join(_compared(evaluation, name, each) for name, each in evaluation.get("compared", {}).items()),
        "MANIFEST": "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(said(value))}</dd>" for name, value in made_from(evaluation).items()
        ),
        "DATA": embedded_json(_data(charts, evaluation)),
    }
    return filled(TEMPLATE, parts)


def _data(charts: Sequence[tuple[str, dict[str, str]]], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    horizons = evaluation["horizons"]
    return {
        "hz": evaluation["hz"],
        "steps": [entry["step"] for entry in horizons],
        "charts": [
            {"curves": [{"label": label, "values": [h[name] for h in horizons]} for label, name in curves.items()]}
            for _, curves in charts
        ],
    }


def _chart(name: str, curves: Mapping[str, str], horizons: Sequence[Mapping[str, Any]]) -> str:
    values = [h[entry] for entry in curves.values() for h in horizons if h[entry] is not None] or [0.0]
    low, high = min(values), max(values)
    low, high = (low - 0.05 * (high - low), high + 0.05 * (high - low)) if high > low else (low - 1, high + 1)

    def point(k: int, value: float) -> str:
        return f"{(k + 0.5) / len(horizons) * WIDTH:.1f},{(high - value) / (high - low) * HEIGHT:.1f}"

    lines = []
    for share in (0.2, 0.4, 0.6, 0.8):
        lines.append(f'<path class="grid" d="M0,{share * HEIGHT:.0f}H{WIDTH}"/>')
    first = next(iter(curves.values()))
    bounds = [(k, h[f"{first}_interval"]) for k, h in enumerate(horizons) if h[f"{first}_interval"]]
    if bounds and all(None not in bound for _, bound in bounds):
        there = " ".join(point(k, bound[1]) for k, bound in bounds)
        back = " ".join(point(k, bound[0]) for k, bound in reversed(bounds))
        lines.append(f'<path class="band" d="M{there} L{back}Z"/>')
    for i, entry in reversed(list(enumerate(curves.values()))):
        points = " ".join(point(k, h[entry]) for k, h in enumerate(horizons) if h[entry] is not None)
        dash = ' stroke-dasharray="7 4"' if i % 2 else ""
        lines.append(f'<path style="stroke:var(--c{i})"{dash} d="M{points}"/>')
    labels = "".join(
        f'<b style="top:{100 * share:.0f}%">{high - share * (high - low):.3g}</b>' for share in (0.2, 0.4, 0.6, 0.8)
    )
    return (
        f'<h3>{escape(name)}</h3><div class="chart" tabindex="0" role="slider" '
        f'aria-label="{escape(name)}, steps ahead" aria-valuemin="1" aria-valuemax="{len(horizons)}">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{"".join(lines)}</svg>'
        f'{labels}<i class="cursor"></i></div>'
        '<div class="read"></div>'
    )


def _table(evaluation: Mapping[str, Any]) -> str:
    columns = {"PSNR": "psnr", **FLOORS, "SSIM": "ssim", "sharpness": "sharpness", "flicker": "flicker"}
    rows = [
        [f"+{h['step']}", *(with_interval(h[name], h[f"{name}_interval"]) for name in columns.values())]
        for h in shown_steps(evaluation)
    ]
    return html_table(["steps ahead", *columns], rows)


def _slices(slices: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{s['by']}: {s['value']}", str(s["clips"]), f"{s['psnr']:.2f}", f"{s['margin']:+.2f}",
            f"{s['usable_seconds']:.2f}",
        ]
        for s in slices
    ]  # fmt: skip
    return html_table(["clips by", "number", "PSNR, all steps", "over copying", "usable seconds"], rows)


def _card(card: Mapping[str, Any]) -> str:
    """The checks, what other actions cost, and the branches."""
    marks = {True: "yes", False: "no", None: "not judged"}
    checks = [[check["name"], marks[check["passed"]], check["said"]] for check in card["checks"]]
    costs = [[entry["what"], with_interval(entry["cost"], entry["interval"])] for entry in card["costs"].values()]
    tables = [html_table(["check", "passed", "evidence"], checks), html_table(["actions", "cost in dB"], costs)]
    if card["branches"] is not None:
        names = list(card["branches"]["branches"])
        nearest = [
            [name, *(f"{share:.0%}" for share in entry["nearest"])]
            for name, entry in card["branches"]["branches"].items()
        ]
        tables.append(html_table(["the dream of", *(f"nearest to {name}" for name in names)], nearest))
    return "<h2>Does it obey its driver?</h2>" + "".join(f'<div class="scroll">{table}</div>' for table in tables)


def _compared(evaluation: Mapping[str, Any], folder: str, difference: Mapping[str, Any]) -> str:
    table = html_table(["this minus that", ""], difference_rows(evaluation, difference))
    return f'<h2>Against {escape(str(difference["name"] or folder))}</h2><div class="scroll">{table}</div>'


def _picture(caption: str, png: bytes) -> str:
    return f'<h2>{escape(caption)}</h2><figure><img alt="{escape(caption)}" src="{address("image/png", png)}"></figure>'


def _lpips(evaluation: Mapping[str, Any]) -> list[str]:
    return [] if "lpips" in evaluation["horizons"][0] else [f"LPIPS: {evaluation['lpips']}."]
