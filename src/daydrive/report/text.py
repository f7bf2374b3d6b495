"""An evaluation as text: a table for the terminal, the same in Markdown, and a report for a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from daydrive.report import rows
from daydrive.report.rows import BASELINES, shown_steps
from daydrive.report.sentences import (
    ABOUT_FRECHET,
    about_branches,
    about_features,
    about_nearest,
    about_the_end,
    headline,
    made_from,
    usable_sentence,
)
from daydrive.report.tables import RIGHT, markdown_table, number, plain, with_interval

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
    """Usable seconds, the margins, each baseline with its interval, comparisons, what it was made from."""
    parts = [
        f"# {evaluation.get('name') or 'Evaluation'}",
        usable_sentence(evaluation),
        margins_markdown(evaluation),
        "## PSNR beside its baselines\n\n" + baselines_markdown(evaluation),
    ]
    if isinstance(evaluation["horizons"][0].get("lpips"), float):
        parts.append("## LPIPS\n\n" + _lpips(evaluation))
    else:
        parts.append(f"LPIPS: {evaluation['lpips']}.")
    parts.append("## As a whole\n\n" + frechet_markdown(evaluation["distribution"]))
    if "controllability" in evaluation:
        parts.append("## Does it obey its driver?\n\n" + controllability_markdown(evaluation["controllability"]))
    if "long_dreams" in evaluation:
        parts.append("## Long dreams\n\n" + long_markdown(evaluation["long_dreams"], evaluation["hz"]))
    parts.append("## By kind of clip\n\n" + markdown_table(*rows.slices(evaluation["slices"]), RIGHT))
    for folder, difference in evaluation.get("compared", {}).items():
        parts.append(f"## Against {difference['name'] or folder}\n\n" + _difference(evaluation, difference))
    parts.append("## Made from\n\n" + _made_from(evaluation))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def baselines_markdown(evaluation: Mapping[str, Any]) -> str:
    """PSNR of the model and of its baselines, with intervals."""
    cells = _with_intervals(evaluation, ("psnr", *BASELINES.values()), ".2f")
    table = markdown_table(("steps ahead", "dream", *BASELINES), cells, RIGHT)
    return table + "\n\nPSNR in dB, mean over clips, in brackets 95 % intervals by bootstrap over drives."


def controllability_markdown(scores: Mapping[str, Any]) -> str:
    """Verdict and mark, the checks with their evidence, and the tables behind them."""
    mark = scores["mark"]
    parts = [
        f"**{scores['verdict'].capitalize()}.** Mark: {mark['passed']} of {mark['of']} checks passed.",
        markdown_table(*rows.checks(scores)),
        f"PSNR in dB against the true actions, mean over {scores['clips']} clips of {scores['drives']} drives and "
        f"{scores['steps']} steps:",
        markdown_table(*rows.costs(scores)),
        "Motion read back from the frames, against what was commanded:",
        markdown_table(*rows.egomotion(scores["egomotion"])),
    ]
    if scores["branches"] is not None:
        parts += [about_branches(scores["branches"]), markdown_table(*rows.branches(scores["branches"]))]
    if scores.get("nearest_training_clips"):
        clips = scores["nearest_training_clips"]
        parts += [about_nearest(clips), markdown_table(*rows.nearest_clips(clips))]
    return "\n\n".join(parts) + "\n"


def long_markdown(long: Mapping[str, Any], hz: float) -> str:
    """How very long rollouts end."""
    return f"{markdown_table(*rows.long_rollouts(long, hz))}\n\n{about_the_end(long)}\n"


def frechet_markdown(distribution: Mapping[str, Any]) -> str:
    """The tables, what they are of, and what is not measured."""
    tables = [
        markdown_table(*found, RIGHT) for found in (rows.frechet_sizes(distribution), rows.frechet_bands(distribution))
    ]
    return "\n\n".join([ABOUT_FRECHET, *tables, *about_features(distribution)]) + "\n"


def _lpips(evaluation: dict[str, Any]) -> str:
    cells = _with_intervals(evaluation, ("lpips", "copy_last_lpips"), ".3f")
    table = markdown_table(("steps ahead", "dream", "last frame copied"), cells, RIGHT)
    return f"{table}\n\nNetwork: {evaluation['lpips']}; less is nearer."


def _with_intervals(evaluation: Mapping[str, Any], names: Sequence[str], form: str) -> list[list[str]]:
    return [
        [str(h["step"]), *(with_interval(h[name], h[f"{name}_interval"], form) for name in names)]
        for h in shown_steps(evaluation)
    ]


def _difference(evaluation: dict[str, Any], difference: dict[str, Any]) -> str:
    table = markdown_table(*rows.differences(evaluation, difference), RIGHT)
    return table + "\n\nPaired by clip; an interval without 0 tells them apart."


def _made_from(evaluation: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {plain(value)}" for name, value in made_from(evaluation).items())


def _rows(evaluation: dict[str, Any]) -> list[tuple[str, ...]]:
    return [_row(metrics, evaluation["hz"]) for metrics in shown_steps(evaluation)]


def _row(metrics: dict[str, Any], hz: float) -> tuple[str, ...]:
    psnr = metrics["psnr"]
    return (
        str(metrics["step"]),
        f"{metrics['step'] / hz:.2f}",
        f"{psnr:.2f}",
        f"{metrics['copy_last_psnr']:.2f}",
        number(psnr - metrics["copy_last_psnr"], "+.2f"),
        number(psnr - metrics["shuffled_actions_psnr"]),
        f"{metrics['ssim']:.3f}",
        f"{metrics['copy_last_ssim']:.3f}",
        number(metrics["sharpness"]),
    )


def _caption(evaluation: dict[str, Any]) -> str:
    notes = "".join(f" {note}" for note in evaluation["notes"])
    return f"PSNR in dB, mean over clips; sharpness against the real frame's.{notes}"
