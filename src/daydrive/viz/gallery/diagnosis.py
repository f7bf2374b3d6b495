"""The findings of `daydrive data doctor` as one self-contained HTML page with images and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from daydrive.data.images import encode
from daydrive.data.quality.doctor.features import decode
from daydrive.data.quality.doctor.finding import Curve, Finding
from daydrive.data.store.store import Store
from daydrive.viz.html import data_uri, render
from daydrive.viz.images import enlarge, overlay_action, widen
from daydrive.viz.svg import Drawing, linear

TALL = 144
"""Height of an image on the page, in pixels."""
WIDTH, HEIGHT = 640, 180
"""Size of a curve's drawing."""
COLOURS = ("#0072B2", "#9AA0A8")
_TEXT, _AXIS, _MARK = "#5b6572", "#c5cad1", "#b3261e"
_NAMED_DRIVES = 12


class Section(NamedTuple):
    """A finding on the page: its text, images with their captions, and its curve as SVG."""

    severity: str
    code: str
    evidence: str
    fix: str
    where: str
    images: list[tuple[Markup, str]]
    drawing: Markup | None


def diagnosis_page(store: Store, findings: Sequence[Finding]) -> str:
    """The text of the page, which is self-contained and needs no network."""
    return render(
        __package__,
        "diagnosis.html",
        title=store.path.name or str(store.path),
        subtitle=f"{store.rows} frames of {len(store.drives)} drives at {store.hz:g} Hz, from {store.source}",
        sections=[_section(store, finding) for finding in findings],
    )


def _section(store: Store, finding: Finding) -> Section:
    where = "the whole store" if finding.whole else ", ".join(finding.drives[:_NAMED_DRIVES]) or "the store"
    if len(finding.drives) > _NAMED_DRIVES and not finding.whole:
        where += f" and {len(finding.drives) - _NAMED_DRIVES} more"
    if finding.frames is not None:
        where += f", frames {finding.frames[0]} to {finding.frames[1]}"
    drawing = None if finding.curve is None else _drawing(finding.curve)
    images = _images(store, finding.rows)
    return Section(finding.severity, finding.code, finding.message, finding.fix, where, images, drawing)


def _images(store: Store, rows: Sequence[int]) -> list[tuple[Markup, str]]:
    """Data URIs and captions of frames with their actions."""
    if not rows:
        return []
    jpegs, actions = store.read(list(rows))
    shown = []
    images, _ = decode(jpegs, store.image_size)
    for row, image, action in zip(rows, widen(images, store.pixel_aspect), actions, strict=True):
        drive, frame = store.locate(row)
        tile = overlay_action(enlarge(image, TALL), np.nan_to_num(action), height=TALL // 4)
        shown.append((data_uri(encode(tile), "image/jpeg"), f"{drive.name}, frame {frame}"))
    return shown


def _drawing(curve: Curve) -> Markup:
    """All lines of the curve in one chart with a legend."""
    left, top, right, bottom = 56, 14, WIDTH - 12, HEIGHT - 34
    values = np.concatenate([np.asarray(line, dtype=np.float64) for line in curve.lines.values()])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    low, high = (low - 0.5, high + 0.5) if high - low < 1e-12 else (low, high)
    first, last = curve.x[0], max(curve.x[-1], curve.x[0] + 1)
    x, y = linear(first, last, left, right), linear(low, high, bottom, top)
    drawing = Drawing(WIDTH, HEIGHT)

    def text(at: float, height: float, words: str, anchor: str, colour: str = _TEXT) -> None:
        drawing.text(at, height, words, text_anchor=anchor, fill=colour)

    drawing.path([(left, top), (left, bottom), (right, bottom)], fill="none", stroke=_AXIS)
    for k, (label, line) in enumerate(curve.lines.items()):
        colour = COLOURS[k % len(COLOURS)]
        points = [(x(a), y(b)) for a, b in zip(curve.x, line, strict=True)]
        drawing.path(points, fill="none", stroke=colour, stroke_width=2)
        text(right, top + 13 * k, label, "end", colour)
    for label, mark in curve.marks.items():
        at = x(float(np.clip(mark, first, last)))
        drawing.path([(at, top), (at, bottom)], stroke=_MARK, stroke_dasharray="4 3")
        text(at + 4, bottom - 6, f"{label} {mark:.3g}", "start", _MARK)
    text(left - 6, top + 4, f"{high:.3g}", "end")
    text(left - 6, bottom, f"{low:.3g}", "end")
    text(left, bottom + 16, f"{first:g}", "middle")
    text(right, bottom + 16, f"{last:g}", "end")
    text((left + right) / 2, bottom + 28, f"{curve.x_label}; up: {curve.y_label}", "middle")
    return drawing.markup(width=WIDTH, font_size=11)
