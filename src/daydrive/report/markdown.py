"""The figures in words: a table for the terminal, the same in Markdown, and a report for a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from daydrive.report.card_markdown import card_markdown, long_markdown
from daydrive.report.distribution import distribution_markdown
from daydrive.report.sentences import long_sentence
from daydrive.report.tables import Rows, markdown_table, number, said, with_interval

RIGHT = "---:"
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
    table = markdown_table(tuple(COLUMNS), _rows(evaluation), RIGHT)
    return f"{table}\n\n{headline(evaluation)}. {_caption(evaluation)}\n"


def report_markdown(evaluation: dict[str, Any]) -> str:
    """Usable seconds, the margins, each floor with its interval, comparisons, what it was made from."""
    parts = [
        f"# {evaluation.get('name') or 'Evaluation'}",
        usable_sentence(evaluation),
        margins_markdown(evaluation),
        "## PSNR beside its floors\n\n" + floors_markdown(evaluation),
    ]
    if isinstance(evaluation["horizons"][0].get("lpips"), float):
        parts.append("## LPIPS\n\n" + _lpips(evaluation))
    else:
        parts.append(f"LPIPS: {evaluation['lpips']}.")
    parts.append("## As a whole\n\n" + distribution_markdown(evaluation["distribution"]))
    if "card" in evaluation:
        parts.append("## Does it obey its driver?\n\n" + card_markdown(evaluation["card"]))
    if "long_dreams" in evaluation:
        parts.append("## Long dreams\n\n" + long_markdown(evaluation["long_dreams"], evaluation["hz"]))
    parts.append("## By kind of clip\n\n" + markdown_table(*slice_rows(evaluation["slices"]), RIGHT))
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


def long_dreams_sentence(evaluation: Mapping[str, Any]) -> str:
    """What becomes of long dreams; nothing where none were dreamt."""
    return long_sentence(evaluation["long_dreams"], evaluation["hz"]) if "long_dreams" in evaluation else ""


def slice_rows(slices: Sequence[Mapping[str, Any]]) -> Rows:
    """The figures of each kind of clips."""
    rows = [
        (
            f"{s['by']}: {s['value']}", str(s["clips"]), f"{s['psnr']:.2f}", f"{s['margin']:+.2f}",
            f"{s['usable_seconds']:.2f}",
        )
        for s in slices
    ]  # fmt: skip
    return Rows(("clips by", "number", "PSNR, all steps", "over copying", "usable seconds"), rows)


def floors_markdown(evaluation: Mapping[str, Any]) -> str:
    """PSNR of the dream and of its floors, with intervals."""
    rows = _with_intervals(evaluation, ("psnr", *FLOORS.values()), ".2f")
    table = markdown_table(("steps ahead", "dream", *FLOORS), rows, RIGHT)
    return table + "\n\nPSNR in dB, mean over clips, in brackets 95 % intervals by bootstrap over drives."


def _lpips(evaluation: dict[str, Any]) -> str:
    rows = _with_intervals(evaluation, ("lpips", "copy_last_lpips"), ".3f")
    table = markdown_table(("steps ahead", "dream", "last frame copied"), rows, RIGHT)
    return f"{table}\n\nNetwork: {evaluation['lpips']}; less is nearer."


def _with_intervals(evaluation: Mapping[str, Any], names: Sequence[str], form: str) -> list[list[str]]:
    return [
        [str(h["step"]), *(with_interval(h[name], h[f"{name}_interval"], form) for name in names)]
        for h in shown_steps(evaluation)
    ]


def difference_rows(evaluation: Mapping[str, Any], difference: Mapping[str, Any]) -> list[list[str]]:
    """Usable seconds, and PSNR and SSIM at a few steps: this one minus that one, with the interval."""
    bounds = difference["usable_seconds_interval"]
    rows = [["usable seconds", with_interval(difference["usable_seconds"], bounds, "+.2f")]]
    for figures in shown_steps(evaluation):
        step = figures["step"]
        for name, label in (("psnr", "PSNR, dB,"), ("ssim", "SSIM")):
            bounds = difference[f"{name}_interval"]
            value = with_interval(difference[name][step - 1], bounds and bounds[step - 1], "+.3f")
            rows.append([f"{label} at {step}", value])
    return rows


def _difference(evaluation: dict[str, Any], difference: dict[str, Any]) -> str:
    table = markdown_table(("this minus that", "difference [95 %]"), difference_rows(evaluation, difference), RIGHT)
    return table + "\n\nPaired by clip; an interval without 0 tells them apart."


def _made_from(evaluation: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {said(value)}" for name, value in made_from(evaluation).items())


def made_from(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest, and the drives by name."""
    return {**evaluation["manifest"], "held-out drives": evaluation["held"]}


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
        number(psnr - figures["copy_last_psnr"], "+.2f"),
        number(psnr - figures["shuffled_actions_psnr"]),
        f"{figures['ssim']:.3f}",
        f"{figures['copy_last_ssim']:.3f}",
        number(figures["sharpness"]),
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
