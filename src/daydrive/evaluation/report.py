"""The margins in words: a table for the terminal, the same in Markdown."""

from __future__ import annotations

from typing import Any

from rich.table import Table

SHOWN_STEPS = (1, 5, 10, 30)
COLUMNS = {
    "steps ahead": "step",
    "seconds": "s",
    "PSNR": "PSNR",
    "copied last frame": "copied",
    "margin": "margin",
    "cost of another clip's actions": "actions",
    "SSIM": "SSIM",
    "SSIM, copied": "copied",
    "sharpness": "sharp",
}
"""In Markdown: on a terminal."""

_LEGEND = "copied: the last real frame; actions: what another clip's cost."


def margins_table(evaluation: dict[str, Any]) -> Table:
    """A rich table of `evaluate`'s result."""
    table = Table(
        title=_headline(evaluation),
        caption_justify="left",
        caption=f"{_LEGEND} {_caption(evaluation)}",
        title_justify="left",
    )
    for column in COLUMNS.values():
        table.add_column(column, justify="right")
    for row in _rows(evaluation):
        table.add_row(*row)
    return table


def margins_markdown(evaluation: dict[str, Any]) -> str:
    """The same as a Markdown table with its caption below, for a README."""
    rows = [tuple(COLUMNS), ("---:",) * len(COLUMNS), *_rows(evaluation)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{lines}\n\n{_headline(evaluation)}. {_caption(evaluation)}\n"


def _rows(evaluation: dict[str, Any]) -> list[tuple[str, ...]]:
    horizons = evaluation["horizons"]
    wanted = sorted({step for step in SHOWN_STEPS if step <= len(horizons)} | {len(horizons)})
    return [_row(horizons[step - 1], evaluation["hz"]) for step in wanted]


def _row(figures: dict[str, Any], hz: float) -> tuple[str, ...]:
    psnr = figures["psnr"]
    return (
        str(figures["step"]),
        f"{figures['step'] / hz:.2f}",
        f"{psnr:.2f}",
        f"{figures['copy_last_psnr']:.2f}",
        f"{psnr - figures['copy_last_psnr']:+.2f}",
        f"{psnr - figures['shuffled_actions_psnr']:.2f}",
        f"{figures['ssim']:.3f}",
        f"{figures['copy_last_ssim']:.3f}",
        "-" if figures["sharpness"] is None else f"{figures['sharpness']:.2f}",
    )


def _headline(evaluation: dict[str, Any]) -> str:
    return (
        f"{evaluation['clips']} clips of split '{evaluation['split']}', "
        f"{evaluation['context']} frames of context, {evaluation['hz']:g} Hz"
    )


def _caption(evaluation: dict[str, Any]) -> str:
    notes = "".join(f" {note}" for note in evaluation["notes"])
    return f"PSNR in dB, mean over clips; sharpness against the real frame's.{notes}"
