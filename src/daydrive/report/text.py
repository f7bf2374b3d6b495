"""Text reports of an evaluation: a table for the terminal and for Markdown, and a Markdown report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from daydrive.report import decision_rows, rows, sentences
from daydrive.report.rows import BASELINES, shown_steps
from daydrive.report.sentences import (
    ABOUT_FRECHET,
    ABOUT_KERNEL,
    ABOUT_SAMPLES,
    ABOUT_SPECTRUM,
    about_branches,
    about_features,
    about_horizons,
    about_long_rollouts,
    about_nearest,
    headline,
    provenance,
    realistic_sentence,
    samples_sentence,
    usable_sentence,
)
from daydrive.report.tables import RIGHT, format_number, format_value, format_with_interval, markdown_table

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
"""Column headers: Markdown → terminal."""

_LEGEND = "copied: the last real frame; actions: PSNR cost of another clip's actions."


def margins_table(evaluation: dict[str, Any]) -> Table:
    """A rich table of the result of `evaluate`, for the terminal."""
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
    """The same table in Markdown, with its caption below."""
    table = markdown_table(tuple(COLUMNS), _rows(evaluation), RIGHT)
    return f"{table}\n\n{headline(evaluation)}. {_caption(evaluation)}\n"


def report_markdown(evaluation: dict[str, Any]) -> str:
    """The whole report in Markdown: usable seconds, metrics and baselines with intervals, comparisons, provenance."""
    parts = [
        f"# {evaluation.get('name') or 'Evaluation'}",
        usable_sentence(evaluation),
        realistic_sentence(evaluation),
        margins_markdown(evaluation),
        "## PSNR and baselines\n\n" + baselines_markdown(evaluation),
    ]
    if isinstance(evaluation["horizons"][0].get("lpips"), float):
        parts.append("## LPIPS\n\n" + _lpips(evaluation))
    else:
        parts.append(f"LPIPS: {evaluation['lpips']}.")
    if "spectrum" in evaluation:
        parts.append("## Spectrum\n\n" + spectrum_markdown(evaluation["spectrum"]))
    parts.append("## Distribution\n\n" + distribution_markdown(evaluation["distribution"]))
    if "controllability" in evaluation:
        parts.append("## Controllability\n\n" + controllability_markdown(evaluation["controllability"]))
    if "long_dreams" in evaluation:
        parts.append("## Long rollouts\n\n" + long_markdown(evaluation["long_dreams"], evaluation["hz"]))
    if "samples" in evaluation:
        parts.append("## Sampled futures\n\n" + samples_markdown(evaluation))
    if "trajectories" in evaluation:
        parts.append("## Trajectories\n\n" + trajectories_markdown(evaluation["trajectories"]))
    parts.append("## Metrics by kind of clip\n\n" + markdown_table(*rows.slices(evaluation["slices"]), RIGHT))
    for folder, difference in evaluation.get("compared", {}).items():
        parts.append(f"## Comparison with {difference['name'] or folder}\n\n" + _difference(evaluation, difference))
    if "human" in evaluation:
        table = markdown_table(*rows.human(evaluation["human"]))
        parts.append(f"## Human comparison\n\n{sentences.human(evaluation['human'])}\n\n{table}")
    if "decisions" in evaluation:
        parts.append("## Decisions\n\n" + decisions_markdown(evaluation["decisions"]))
    parts.append("## Provenance\n\n" + _provenance(evaluation))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def baselines_markdown(evaluation: Mapping[str, Any]) -> str:
    """PSNR of the model and the baselines, with intervals."""
    cells = _with_intervals(evaluation, ("psnr", *BASELINES.values()), ".2f")
    table = markdown_table(("steps ahead", "model", *BASELINES), cells, RIGHT)
    return table + "\n\nPSNR in dB, mean over clips; in brackets 95 % confidence intervals (bootstrap over drives)."


def controllability_markdown(scores: Mapping[str, Any]) -> str:
    """The controllability scorecard: verdict, passed checks with their evidence, and the underlying tables."""
    mark = scores["mark"]
    parts = [
        f"**{scores['verdict'].capitalize()}.** {mark['passed']} of {mark['of']} checks passed.",
        markdown_table(*rows.checks(scores)),
        f"PSNR loss with other actions than the true ones, mean over {scores['clips']} clips of {scores['drives']} "
        f"drives and {scores['steps']} steps:",
        markdown_table(*rows.costs(scores)),
        "Motion estimated from the frames, compared with the commands:",
        markdown_table(*rows.egomotion(scores["egomotion"])),
    ]
    if scores["branches"] is not None:
        parts += [about_branches(scores["branches"]), markdown_table(*rows.branches(scores["branches"]))]
    if scores.get("nearest_training_clips"):
        clips = scores["nearest_training_clips"]
        parts += [about_nearest(clips), markdown_table(*rows.nearest_clips(clips))]
    return "\n\n".join(parts) + "\n"


def long_markdown(long: Mapping[str, Any], hz: float) -> str:
    """The stability of long rollouts."""
    parts = [markdown_table(*rows.long_rollouts(long, hz)), about_long_rollouts(long)]
    if "quality" in long:
        parts += [about_horizons(long["quality"]), markdown_table(*rows.horizon_quality(long["quality"]), RIGHT)]
    return "\n\n".join(parts) + "\n"


def samples_markdown(evaluation: Mapping[str, Any]) -> str:
    """The sampled futures with explanations, or why there are none."""
    found = evaluation["samples"]
    parts = [samples_sentence(evaluation)]
    if not isinstance(found, str):
        parts += [markdown_table(*rows.samples(found), RIGHT), ABOUT_SAMPLES]
    return "\n\n".join(parts) + "\n"


def trajectories_markdown(found: Mapping[str, Any] | str) -> str:
    """The displacements of trajectories, with the estimator's error; or why there are none."""
    table = "" if isinstance(found, str) else f"\n\n{markdown_table(*rows.trajectories(found), RIGHT)}"
    return f"{sentences.about_trajectories(found)}{table}\n"


def decisions_markdown(decisions: Sequence[Mapping[str, Any]]) -> str:
    """What planning, learned policies and rankings of drivers achieved outside of the model."""
    parts = []
    for entry in decisions:
        parts += [f"### {sentences.DECISIONS[entry['command']]}", sentences.about_decisions(entry)]
        parts += [markdown_table(*table, RIGHT) for _, table in decision_rows.tables(entry)]
    return "\n\n".join(parts) + "\n"


def spectrum_markdown(spectrum: Mapping[str, Any]) -> str:
    """The power of the predicted frames by octave, with explanations."""
    return f"{ABOUT_SPECTRUM}\n\n{markdown_table(*rows.octaves(spectrum), RIGHT)}\n"


def distribution_markdown(distribution: Mapping[str, Any]) -> str:
    """The tables of Fréchet and kernel distances with explanations."""
    tables = [
        markdown_table(*table, RIGHT) for table in (rows.frechet_sizes(distribution), rows.frechet_bands(distribution))
    ]
    kernel = markdown_table(*rows.kernel_distances(distribution), RIGHT)
    return "\n\n".join([ABOUT_FRECHET, *tables, ABOUT_KERNEL, kernel, *about_features(distribution)]) + "\n"


def _lpips(evaluation: dict[str, Any]) -> str:
    cells = _with_intervals(evaluation, ("lpips", "copy_last_lpips"), ".3f")
    table = markdown_table(("steps ahead", "model", "last frame copied"), cells, RIGHT)
    return f"{table}\n\nNetwork: {evaluation['lpips']}; lower is better."


def _with_intervals(evaluation: Mapping[str, Any], names: Sequence[str], form: str) -> list[list[str]]:
    return [
        [str(h["step"]), *(format_with_interval(h[name], h[f"{name}_interval"], form) for name in names)]
        for h in shown_steps(evaluation)
    ]


def _difference(evaluation: dict[str, Any], difference: dict[str, Any]) -> str:
    table = markdown_table(*rows.differences(evaluation, difference), RIGHT)
    return table + "\n\nThis evaluation minus the other, paired by clip; an interval that excludes 0 is significant."


def _provenance(evaluation: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {format_value(value)}" for name, value in provenance(evaluation).items())


def _rows(evaluation: dict[str, Any]) -> list[tuple[str, ...]]:
    return [_row(metrics, evaluation["hz"]) for metrics in shown_steps(evaluation)]


def _row(metrics: dict[str, Any], hz: float) -> tuple[str, ...]:
    psnr = metrics["psnr"]
    return (
        str(metrics["step"]),
        f"{metrics['step'] / hz:.2f}",
        f"{psnr:.2f}",
        f"{metrics['copy_last_psnr']:.2f}",
        format_number(psnr - metrics["copy_last_psnr"], "+.2f"),
        format_number(psnr - metrics["shuffled_actions_psnr"]),
        f"{metrics['ssim']:.3f}",
        f"{metrics['copy_last_ssim']:.3f}",
        format_number(metrics["sharpness"]),
    )


def _caption(evaluation: dict[str, Any]) -> str:
    notes = "".join(f" {note}" for note in evaluation["notes"])
    return f"PSNR in dB, mean over clips; sharpness relative to the real frames.{notes}"
