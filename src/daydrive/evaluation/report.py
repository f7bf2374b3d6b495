"""The figures in words: a table for the terminal, the same in Markdown, and a report for a pull request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from daydrive.evaluation.card.markdown import card_markdown

SHOWN_STEPS = (1, 5, 10, 30)
FLOORS = {
    "last frame copied": "copy_last_psnr",
    "last motion goes on": "constant_flow_psnr",
    "mean picture": "mean_picture_psnr",
    "another clip's actions": "shuffled_actions_psnr",
    "no actions": "zero_actions_psnr",
}
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
        title=headline(evaluation),
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
    return f"{_table(rows)}\n\n{headline(evaluation)}. {_caption(evaluation)}\n"


def report_markdown(evaluation: dict[str, Any]) -> str:
    """Usable seconds, the margins, each floor with its interval, comparisons, what it was made from."""
    parts = [
        f"# {evaluation.get('name') or 'Evaluation'}",
        usable_sentence(evaluation),
        margins_markdown(evaluation),
        "## PSNR beside its floors\n\n" + _floors(evaluation),
    ]
    if isinstance(evaluation["horizons"][0].get("lpips"), float):
        parts.append("## LPIPS\n\n" + _lpips(evaluation))
    else:
        parts.append(f"LPIPS: {evaluation['lpips']}.")
    if "card" in evaluation:
        parts.append("## Does it obey its driver?\n\n" + card_markdown(evaluation["card"]))
    for folder, difference in evaluation.get("compared", {}).items():
        parts.append(f"## Against {difference['name'] or folder}\n\n" + _difference(evaluation, difference))
    parts.append("## Made from\n\n" + _made_from(evaluation))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def usable_sentence(evaluation: Mapping[str, Any]) -> str:
    """The one number to compare models with, in words."""
    bounds = evaluation["usable_seconds_interval"]
    sure = f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else " (one drive only, so no interval)"
    horizon = len(evaluation["horizons"]) / evaluation["hz"]
    return (
        f"Usable seconds: {evaluation['usable_seconds']:.2f}{sure}. For so long a dream is better than any guess; "
        f"{evaluation['usable_to_the_end']:.0%} of them are to the end of the {horizon:.1f} s."
    )


def verdict_sentence(evaluation: Mapping[str, Any]) -> str:
    """What the report card says; nothing without one."""
    if "card" not in evaluation:
        return ""
    card = evaluation["card"]
    return f"Verdict: it {card['verdict']}; {card['mark']['passed']} of {card['mark']['of']} checks passed."


def _floors(evaluation: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("steps ahead", "dream", *FLOORS)]
    rows.append(("---:",) * len(rows[0]))
    for figures in shown_steps(evaluation):
        cells = (_with_interval(figures, name, "{:.2f}") for name in ("psnr", *FLOORS.values()))
        rows.append((str(figures["step"]), *cells))
    return _table(rows) + "\n\nPSNR in dB, mean over clips, in brackets 95 % intervals by bootstrap over drives."


def _lpips(evaluation: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("steps ahead", "dream", "last frame copied"), ("---:",) * 3]
    for figures in shown_steps(evaluation):
        cells = (_with_interval(figures, name, "{:.3f}") for name in ("lpips", "copy_last_lpips"))
        rows.append((str(figures["step"]), *cells))
    return _table(rows) + f"\n\nNetwork: {evaluation['lpips']}; less is nearer."


def _difference(evaluation: dict[str, Any], difference: dict[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("", "difference", "95 % interval"), ("---", "---:", "---:")]
    for figures in shown_steps(evaluation):
        place = figures["step"] - 1
        for name, unit in (("psnr", " dB"), ("ssim", "")):
            bounds = difference[f"{name}_interval"]
            rows.append(
                (
                    f"{name.upper()} at {figures['step']}{unit and ','}{unit}",
                    f"{difference[name][place]:+.3f}",
                    "-" if bounds is None else f"[{bounds[place][0]:+.3f}, {bounds[place][1]:+.3f}]",
                )
            )
    bounds = difference["usable_seconds_interval"]
    sure = "-" if bounds is None else f"[{bounds[0]:+.2f}, {bounds[1]:+.2f}]"
    rows.append(("usable seconds", f"{difference['usable_seconds']:+.2f}", sure))
    return _table(rows) + "\n\nThis one minus that one, paired by clip; an interval without 0 tells them apart."


def _made_from(evaluation: dict[str, Any]) -> str:
    made = {**evaluation["manifest"], "held-out drives": ", ".join(evaluation["held"])}
    return "\n".join(f"- {name}: {_said(value)}" for name, value in made.items())


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    return "-" if value is None else str(value)


def _with_interval(figures: dict[str, Any], name: str, form: str) -> str:
    bounds = figures[f"{name}_interval"]
    value = form.format(figures[name])
    return value if bounds is None else f"{value} [{form.format(bounds[0])}, {form.format(bounds[1])}]"


def _table(rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown_steps(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a few steps, and of the last."""
    horizons = evaluation["horizons"]
    wanted = sorted({step for step in SHOWN_STEPS if step <= len(horizons)} | {len(horizons)})
    return [horizons[step - 1] for step in wanted]


def _rows(evaluation: dict[str, Any]) -> list[tuple[str, ...]]:
    return [_row(figures, evaluation["hz"]) for figures in shown_steps(evaluation)]


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


def headline(evaluation: Mapping[str, Any]) -> str:
    """Which clips, in words."""
    return (
        f"{evaluation['clips']} clips of split '{evaluation['split']}', "
        f"{evaluation['context']} frames of context, {evaluation['hz']:g} Hz"
    )


def _caption(evaluation: dict[str, Any]) -> str:
    notes = "".join(f" {note}" for note in evaluation["notes"])
    return f"PSNR in dB, mean over clips; sharpness against the real frame's.{notes}"
