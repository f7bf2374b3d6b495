"""What the doctor found as a page: one HTML file with pictures and curves in it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from daydrive.data.images import encode
from daydrive.data.quality.doctor.features import decode
from daydrive.data.quality.doctor.finding import Curve, Finding
from daydrive.data.store.store import Store
from daydrive.pages import address
from daydrive.pictures import enlarge, overlay_action, widen

TALL = 144
"""pixels of a picture on the page"""
WIDTH, HEIGHT = 640, 180
"""of a curve's drawing"""
COLOURS = ("#0072B2", "#9AA0A8")

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #18212b;
  background: #fff; }
@media (prefers-color-scheme: dark) { body { color: #ebedf1; background: #14161a; } svg { background: #ebedf1; } }
section { border-top: 1px solid #8a8f99; padding: .6rem 0 1rem; }
h2 { font-size: 1.05rem; margin: .4rem 0; } p { margin: .3rem 0; }
b { padding: .1rem .5rem; border-radius: .3rem; color: white; font-weight: 600; margin-right: .4rem; }
.fatal { background: #b3261e; } .warning { background: #b26a00; } .note { background: #5b6572; }
.fix::before { content: "→ "; } figure { margin: .6rem .6rem 0 0; display: inline-block; vertical-align: top; }
figcaption, small { color: #5b6572; font-size: .82rem; } img { display: block; }
svg { max-width: 100%; margin-top: .6rem; }
"""


def diagnosis_page(store: Store, findings: Sequence[Finding]) -> str:
    """The whole text of the page; needs nothing else, no network either."""
    title = escape(store.path.name or str(store.path))
    told = f"{store.rows} frames of {len(store.drives)} drives at {store.hz:g} Hz, from {store.source}"
    body = "\n".join(_section(store, finding) for finding in findings) or "<p>Nothing was found.</p>"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}: diagnosis</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{escape(told)}</p>\n{body}\n</html>\n"
    )


def _section(store: Store, finding: Finding) -> str:
    where = "the whole store" if finding.whole else ", ".join(finding.drives[:12]) or "the store"
    if len(finding.drives) > 12 and not finding.whole:
        where += f" and {len(finding.drives) - 12} more"
    if finding.frames is not None:
        where += f", frames {finding.frames[0]} to {finding.frames[1]}"
    return (
        f'<section><h2><b class="{finding.severity}">{finding.severity}</b>{escape(finding.code)}</h2>'
        f'<p>{escape(finding.message)}</p><p class="fix">{escape(finding.fix)}</p><small>{escape(where)}</small>'
        f"<div>{_pictures(store, finding.rows)}</div>"
        f"{'' if finding.curve is None else _drawing(finding.curve)}</section>"
    )


def _pictures(store: Store, rows: Sequence[int]) -> str:
    if not rows:
        return ""
    jpegs, actions = store.read(list(rows))
    figures = []
    pictures, _ = decode(jpegs, store.image_size)
    for row, picture, action in zip(rows, widen(pictures, store.pixel_aspect), actions, strict=True):
        drive, frame = store.locate(row)
        tile = enlarge(picture, TALL)
        shown = overlay_action(tile, np.nan_to_num(action), height=TALL // 4)
        source = address("image/jpeg", encode(shown))
        said = f"{drive.name}, frame {frame}"
        figures.append(
            f'<figure><img alt="{escape(said)}" src="{source}"><figcaption>{escape(said)}</figcaption></figure>'
        )
    return "".join(figures)


def _drawing(curve: Curve) -> str:
    """Lines over one another, with their legend, as SVG."""
    left, top, right, floor = 56, 14, WIDTH - 12, HEIGHT - 34
    values = np.concatenate([np.asarray(line, dtype=np.float64) for line in curve.lines.values()])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    low, high = (low - 0.5, high + 0.5) if high - low < 1e-12 else (low, high)
    first, last = curve.x[0], max(curve.x[-1], curve.x[0] + 1)

    def across(x: float) -> float:
        return left + (x - first) / (last - first) * (right - left)

    def up(y: float) -> float:
        return floor - (y - low) / (high - low) * (floor - top)

    parts = [f'<path d="M{left} {top}V{floor}H{right}" fill="none" stroke="#c5cad1"/>']
    for k, (label, line) in enumerate(curve.lines.items()):
        colour = COLOURS[k % len(COLOURS)]
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(curve.x, line, strict=True) if np.isfinite(y))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(right, top + 13 * k, label, "end", colour))
    for label, x in curve.marks.items():
        at = across(float(np.clip(x, first, last)))
        parts.append(f'<path d="M{at:.1f} {top}V{floor}" stroke="#b3261e" stroke-dasharray="4 3"/>')
        parts.append(_text(at + 4, floor - 6, f"{label} {x:.3g}", "start", "#b3261e"))
    parts += [
        _text(left - 6, top + 4, f"{high:.3g}", "end"), _text(left - 6, floor, f"{low:.3g}", "end"),
        _text(left, floor + 16, f"{first:g}", "middle"), _text(right, floor + 16, f"{last:g}", "end"),
        _text((left + right) / 2, floor + 28, f"{curve.x_label}; up: {curve.y_label}", "middle"),
    ]  # fmt: skip
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-size="11">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#5b6572") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
