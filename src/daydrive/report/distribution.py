"""Fréchet distances as tables and in words."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from daydrive.evaluation.frechet.accumulator import PAIRS
from daydrive.report.tables import Rows, html_table, markdown_table, number

TITLES = {"filters": "filters, frames", "change_filters": "filters, changes", "fid": "FID", "fvd": "FVD"}
COLUMNS = ("dream", "last frame copied", "real frames of other drives", "dream to these")
"""In the order of `PAIRS`."""

ABOUT = (
    "Fréchet distance to the real frames of the same clips; less is nearer. Of few samples it is too large, so that it "
    "means something beside real frames of other drives with as many, and carried on to infinitely many (∞)."
)


def size_rows(distribution: Mapping[str, Any]) -> Rows:
    """Heads and rows: of each distance at a quarter, a half and all of the samples, and carried on."""
    rows = []
    for key, entry in _measured(distribution).items():
        for size in entry["sizes"]:
            rows.append([TITLES[key], f"{size['samples']:.0f}", *_distances(size)])
        rows.append([TITLES[key], "∞", *_distances(entry["extrapolated"])])
    return Rows(("features", "samples", *COLUMNS), rows)


def band_rows(distribution: Mapping[str, Any]) -> Rows:
    """Heads and rows: of each distance that is of frames, near and far steps."""
    rows = [
        [TITLES[key], f"{band['first']} to {band['last']}", *_distances(band)]
        for key, entry in _measured(distribution).items()
        for band in entry.get("bands", ())
    ]
    return Rows(("features", "steps", *COLUMNS), rows)


def distribution_markdown(distribution: Mapping[str, Any]) -> str:
    """The tables, what they are of, and what is not measured."""
    tables = [markdown_table(*rows, "---:") for rows in (size_rows(distribution), band_rows(distribution))]
    return "\n\n".join([ABOUT, *tables, *_notes(distribution)]) + "\n"


def distribution_html(distribution: Mapping[str, Any]) -> str:
    """The same for the page."""
    tables = html_table(*size_rows(distribution), "Fréchet distances by number of samples") + html_table(
        *band_rows(distribution), "Fréchet distances of near and far steps"
    )
    return f"<p>{ABOUT}</p>{tables}" + "".join(f"<p>{escape(note)}</p>" for note in _notes(distribution))


def _notes(distribution: Mapping[str, Any]) -> list[str]:
    """What is not measured, and what the rest is made of."""
    absent = [f"{TITLES[key]}: {distribution[key]}." for key in TITLES if isinstance(distribution.get(key), str)]
    named = "; ".join(f"{TITLES[key]}: {entry['features']}" for key, entry in _measured(distribution).items())
    other = distribution["other_split"]
    of = "no other split has clips so long" if other is None else f"{distribution['other_clips']} clips of '{other}'"
    return [*absent, f"Features: {named}. Other drives: {of}."]


def _measured(distribution: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {key: distribution[key] for key in TITLES if isinstance(distribution.get(key), Mapping)}


def _distances(entry: Mapping[str, float | None]) -> list[str]:
    return [number(entry[name]) for name in PAIRS]
