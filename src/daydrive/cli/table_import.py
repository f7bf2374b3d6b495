"""`daydrive data import-table`: columns, guesses and their agreement with the images, as tables and a chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.markup import escape

from daydrive.cli.store_tables import plain_table
from daydrive.data.table_import.guess import unusable
from daydrive.files import write_text
from daydrive.viz.svg import Drawing

if TYPE_CHECKING:
    from daydrive.data.table_import import Imported

WIDTH, ROW = 900.0, 110.0
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
POINTS = 1500


def print_imported(console: Console, imported: Imported) -> None:
    """All columns of the table, and the guess for each quantity."""
    columns = plain_table("column", "lowest", "highest", "first", numbers=3)
    for name, values in imported.table.numbers.items():
        known = values[np.isfinite(values)]
        cells = (known.min(), known.max(), values[0]) if len(known) else (np.nan, np.nan, np.nan)
        columns.add_row(escape(name), *(f"{cell:.6g}" for cell in cells))
    for name, texts in imported.table.texts.items():
        columns.add_row(escape(name), "text", "", escape(texts[0][-30:]))
    console.print(columns)
    guesses = plain_table("quantity", "column", "unit", "scale", "because of", "")
    for name, guess in imported.guesses.items():
        scale = "" if guess.scale is None else f"{guess.scale:.4g}"
        sure = "" if guess.sure else "check"
        guesses.add_row(name, escape(guess.column), escape(guess.unit), scale, escape(guess.reason), sure)
    console.print(guesses)
    for note in (*unusable(imported.table), sentence(imported)):
        console.print(escape(note))
    if "time" not in imported.guesses and imported.recording.video is None:
        console.print("No time column was found: the rate is 10 frames per second unless prepare-dataset sets --hz.")


def sentence(imported: Imported) -> str:
    """How the steering agrees with the images."""
    found, seconds = imported.steering, float(np.ptp(imported.turn.times)) if len(imported.turn.times) else 0.0
    if "steering" not in imported.guesses:
        return "No steering column was found, by name or by the images."
    if not found.is_clear:
        return (
            f"The images of {seconds:.0f} s leave the sign of the steering open (correlation {found.correlation:.2f}): "
            "check that it is positive to the right."
        )
    return (
        f"The images of {seconds:.0f} s turn with the steering (correlation {abs(found.correlation):.2f}), "
        f"{found.delay:.2f} s later." + (" Its sign was inverted." if found.correlation < 0 else "")
    )


def write_chart(file: Path, imported: Imported) -> None:
    """An SVG with the steering over the turn of the images, the pedals, and the speed, in the compared stretch."""
    part = slice(imported.turn.first, imported.turn.first + len(imported.turn.turn))
    actions, values = imported.recording.actions[part], imported.recording.values[part]
    rows = [
        [("steering", _scaled(actions[:, 0])), ("turn of the images, to the right", _scaled(imported.turn.turn))],
        [("throttle", actions[:, 1]), ("brake", -actions[:, 2])],
    ]
    if np.isfinite(values[:, -1]).any():
        rows.append([("speed, from 0 to its largest", _scaled(np.abs(values[:, -1])))])
    drawing = Drawing(WIDTH, ROW * len(rows))
    for row, curves in enumerate(rows):
        middle = ROW * (row + 0.55)
        drawing.horizontal_line(middle, stroke="#bbbbbb")
        for k, (label, column) in enumerate(curves):
            step = max(1, len(column) // POINTS)
            shown = column[::step]
            x = np.linspace(0.0, WIDTH, max(len(shown), 2))
            points = [(a, middle - 0.38 * ROW * b) for a, b in zip(x, shown, strict=False)]
            drawing.path(points, fill="none", stroke=COLORS[k + 2 * (row % 2)], stroke_width=1.2)
            drawing.text(8 + 250 * k, ROW * row + 14, label, fill=COLORS[k + 2 * (row % 2)], font_size=12)
    seconds = float(np.ptp(imported.turn.times)) if len(imported.turn.times) else 0.0
    about = f"frames {part.start} to {part.stop}, {seconds:.0f} s"
    drawing.text(WIDTH - 8, 14, about, fill="#444444", font_size=12, text_anchor="end")
    markup = drawing.markup(xmlns="http://www.w3.org/2000/svg", font_family="sans-serif")
    write_text(file, f"{markup}\n")


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values divided by their largest magnitude but for outliers, within [-1, 1]."""
    maximum = float(np.nanquantile(np.abs(values), 0.98)) if len(values) else 0.0
    return np.clip(values / (maximum or 1.0), -1.0, 1.0)
