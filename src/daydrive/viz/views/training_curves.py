"""Training curves of several runs, read from their logs; no checkpoint is needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from daydrive.errors import UserError
from daydrive.training.logging.jsonl import METRICS, Row, read_rows
from daydrive.types import Image
from daydrive.viz.charts import FAINT, LineStyle, line_styles, new_figure, render_figure, style_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """steps, values: (K,) each, finite values only."""

    steps: Values
    values: Values


class Run(NamedTuple):
    """Curves of a run: training loss and, per validation and in dB, PSNR of the predictions, PSNR of the copy-last
    baseline, and the margin between them."""

    name: str
    loss: Curve
    psnr: Curve
    copied: Curve
    margin: Curve


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the logs of run folders, skipping broken lines.

    Raises UserError for a folder without a log, and for a log without loss and PSNR.
    """
    names = _names(folders)
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def _read(folder: Path, name: str) -> Run:
    if not (folder / METRICS).is_file():
        what = f"has no {METRICS}" if folder.is_dir() else "does not exist"
        raise UserError(f"the run folder {folder} {what}; give the --run-dir of a training run")
    rows = read_rows(folder, sys.maxsize)
    psnr, copied = (_curve(rows, f"val/{name}") for name in ("psnr", "copy_last_psnr"))
    both, predicted, baseline = np.intersect1d(psnr.steps, copied.steps, return_indices=True)
    margin = Curve(both, psnr.values[predicted] - copied.values[baseline])
    run = Run(name, _curve(rows, "train/loss"), psnr, copied, margin)
    if not len(run.loss.steps) and not len(run.psnr.steps):
        raise UserError(f"{folder / METRICS} contains neither train/loss nor val/psnr yet")
    return run


def _curve(rows: Sequence[Row], name: str) -> Curve:
    found = [(row.step, row.values[name]) for row in rows if np.isfinite(row.values.get(name, np.nan))]
    steps, values = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return Curve(steps, values)


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest trailing parts of the paths that are unique."""
    parts = [folder.absolute().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def smoothed(values: Values, weight: float) -> Values:
    """Exponential moving average with bias correction; `weight` in [0, 1) is the weight of the past."""
    out = np.empty_like(values)
    total = mass = 0.0
    for i, value in enumerate(values):
        total, mass = weight * total + (1 - weight) * value, weight * mass + (1 - weight)
        out[i] = total / mass
    return out


def chart(runs: Sequence[Run], smooth: float = 0.9) -> Image:
    """Loss, validation PSNR and margin side by side; runs differ in colour, dash and marker, and are labelled.

    smooth: of the loss, see `smoothed`; the logged values are drawn pale behind it.
    """
    figure = new_figure(16, 4.8)
    styles = line_styles(len(runs))
    loss, psnr, margin = figure.subplots(1, 3)
    style_axis(loss, f"training loss, smoothed by {smooth:g}" if smooth else "training loss")
    style_axis(psnr, "validation PSNR (dB)")
    style_axis(margin, "margin over copying the last frame (dB)")
    for run, style in zip(runs, styles, strict=True):
        loss.plot(*run.loss, color=style.colour, linewidth=0.8, alpha=0.25)
        _plot(loss, Curve(run.loss.steps, smoothed(run.loss.values, smooth)), style)
        _plot(psnr, run.psnr, style)
        _plot(margin, run.margin, style)
    drawn_values = np.concatenate([run.loss.values for run in runs])
    if len(drawn_values) and drawn_values.min() > 0 and drawn_values.max() > 10 * np.median(drawn_values):
        loss.set_yscale("log")
    baselines = {
        round(float(run.copied.values[-1]), 1): run.copied.values[-1] for run in runs if len(run.copied.values)
    }
    for value in baselines.values():
        psnr.axhline(value, color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)))
        psnr.annotate(
            "last frame copied", (0.98, value), (0, -4), xycoords=psnr.get_yaxis_transform(),
            textcoords="offset points", color=FAINT, fontsize=9, ha="right", va="top",
        )  # fmt: skip
    margin.axhline(0, color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)))
    ends = [
        (loss, [Curve(run.loss.steps, smoothed(run.loss.values, smooth)) for run in runs]),
        (psnr, [run.psnr for run in runs]),
        (margin, [run.margin for run in runs]),
    ]
    for axis, curves in ends:
        axis.set_xlabel("optimizer steps", color=FAINT)
        axis.set_xlim(left=0)
        _label_line_ends(axis, curves, [run.name for run in runs], styles)
    return render_figure(figure)


def _plot(axis: Axes, curve: Curve, style: LineStyle) -> None:
    every = max(1, len(curve.steps) // 8)
    axis.plot(
        *curve, color=style.colour, linestyle=style.dash, linewidth=1.8, marker=style.marker, markersize=5,
        markevery=(every // 2, every),
    )  # fmt: skip


def _label_line_ends(axis: Axes, curves: Sequence[Curve], names: Sequence[str], styles: Sequence[LineStyle]) -> None:
    """The names to the right of the chart, at the height where the lines end, without overlap."""
    drawn = [i for i, curve in enumerate(curves) if len(curve.values)]
    if not drawn:
        axis.text(0.5, 0.5, "nothing logged", transform=axis.transAxes, ha="center", color=FAINT)
        return
    low, high = axis.get_ylim()
    axis.set_ylim(low, high)
    heights = {
        i: axis.transAxes.inverted().transform(axis.transData.transform((0, curves[i].values[-1])))[1] for i in drawn
    }
    gap = 0.07
    order = sorted(drawn, key=lambda i: heights[i])
    placed: list[float] = []
    for i in order:
        placed.append(max(heights[i], placed[-1] + gap) if placed else heights[i])
    over = max(0.0, placed[-1] - 1.0)
    for k, i in enumerate(order):
        y = placed[k] - over
        axis.annotate(
            names[i], (curves[i].steps[-1], curves[i].values[-1]), (1.03, y), textcoords="axes fraction", va="center",
            color=styles[i].colour, fontsize=9, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": styles[i].colour, "linewidth": 0.6, "alpha": 0.6},
        )  # fmt: skip
