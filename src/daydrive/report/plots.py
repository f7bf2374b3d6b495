"""The evaluation in pictures: curves with their floors, a strip of frames, a film."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from daydrive.evaluation.controllability.training_index import Recalled
from daydrive.evaluation.metrics.frame_metrics import Rollout
from daydrive.report.markdown import FLOORS
from daydrive.types import Image
from daydrive.viz.charts import FAINT, drawn, dress, new_figure
from daydrive.viz.images import (
    contact_sheet,
    difference,
    overlay_action,
    side_by_side,
    to_images,
    widen,
    write_on,
    write_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRIP_STEPS = (1, 2, 3, 5, 8, 10, 15, 20, 30, 50)
_MODEL, _COPY, _SHUFFLED = "#0072B2", "#D55E00", "#4D4D4D"
_STYLES = (
    (_MODEL, "-", "o", 2.2), (_COPY, "--", "s", 1.6), ("#009E73", "-.", "D", 1.4), ("#B0B4BC", (0, (4, 1)), "v", 1.4),
    (_SHUFFLED, ":", "^", 1.6), ("#CC79A7", (0, (1, 3)), "x", 1.4),
)  # fmt: skip
"""Colour, dash, marker, width: the colours of Okabe and Ito, told apart in grey by dash and marker."""


def horizon_curves(path: Path, evaluation: dict[str, Any]) -> None:
    """PSNR, SSIM, sharpness and flicker over the steps, the model's with their intervals; lines differ in colour,
    lightness, dash and marker."""
    horizons = evaluation["horizons"]
    steps = [entry["step"] for entry in horizons]
    figure = new_figure(12, 4.2)
    axes = figure.subplots(1, 3)
    _curves(axes[0], "PSNR (dB)", horizons, {"model": "psnr", **FLOORS})
    _curves(axes[1], "SSIM", horizons, {"model": "ssim", "last frame copied": "copy_last_ssim"})
    _curves(axes[2], "detail and change, real = 1", horizons, {"sharpness": "sharpness", "flicker": "flicker"})
    axes[2].axhline(1.0, color=_SHUFFLED, linewidth=1.2, linestyle=(0, (1, 2)))
    axes[2].annotate("real frames", (steps[0], 1.0), (0, 5), textcoords="offset points", color=_SHUFFLED, fontsize=9)
    axes[2].set_ylim(0, max(1.15, axes[2].get_ylim()[1]))
    for axis in (axes[0], axes[2]):
        axis.legend(*axis.get_legend_handles_labels(), frameon=False, fontsize=8, loc="best")
    for axis in axes:
        axis.set_xlabel(f"steps ahead ({evaluation['hz']:g} a second)", color=FAINT)
    title = f"{evaluation['clips']} clips, split '{evaluation['split']}', {evaluation['context']} frames of context"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    write_png(path, drawn(figure))


def _curves(axis: Axes, name: str, horizons: Sequence[dict[str, Any]], curves: dict[str, str]) -> None:
    """curves: the entry of the horizons by label; the first has its interval."""
    from matplotlib.ticker import MaxNLocator

    steps = [entry["step"] for entry in horizons]
    every = max(1, len(steps) // 10)
    for (label, entry), (colour, dash, marker, width) in zip(curves.items(), _STYLES, strict=False):
        values = [np.nan if h[entry] is None else h[entry] for h in horizons]
        axis.plot(
            steps, values, color=colour, linestyle=dash, linewidth=width, marker=marker, markersize=4, markevery=every,
            label=label,
        )  # fmt: skip
    bounds = [h[f"{next(iter(curves.values()))}_interval"] or (np.nan, np.nan) for h in horizons]
    low, high = np.array(bounds, dtype=float).T
    axis.fill_between(steps, low, high, color=_MODEL, alpha=0.15, linewidth=0)
    dress(axis, name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set_xlim(min(steps) - 0.5, max(steps) + 0.5)


def strip(
    path: Path, shown: Sequence[Rollout], hz: float, clips: int, pixel_aspect: float = 1.0, which: str = "evenly chosen"
) -> None:
    """Real, predicted and copied frames at growing distance, for a few clips. pixel_aspect: width / height.
    which: how they were chosen, for the title."""
    steps = [step for step in STRIP_STEPS if step <= len(shown[0].real)]
    rows, labels = [], []
    for rollout in shown:
        real, predicted = (widen(to_images(x), pixel_aspect) for x in (rollout.real, rollout.predicted))
        (last,) = widen(to_images(rollout.last[None]), pixel_aspect)
        rows += [[real[t - 1] for t in steps], [predicted[t - 1] for t in steps], [last] * len(steps)]
        labels += ["real", "predicted", "last frame copied"]
    sheet = contact_sheet(
        rows,
        labels,
        [f"+{step}  {step / hz:.2f} s" for step in steps],
        title=f"{len(shown)} of {clips} clips, {which}",
        height=_height(rows[0][0]),
        group=3,
    )
    write_png(path, sheet)


def memory_sheet(path: Path, recalled: Sequence[Recalled], hz: float, pixel_aspect: float = 1.0) -> None:
    """Dreams, the training clips nearest to them, and what really came, step by step."""
    count = min(len(found.dream.pictures) for found in recalled)
    steps = [step for step in STRIP_STEPS if step <= count]
    rows, labels = [], []
    for found in recalled:
        for frames in (found.rollout.predicted, found.dream.pictures, found.rollout.real):
            pictures = widen(to_images(frames[:count]), pixel_aspect)
            rows.append([pictures[step - 1] for step in steps])
        labels += ["dream", f"nearest in training, {found.dream.psnr:.1f} dB", "real"]
    columns = [f"+{step}  {step / hz:.2f} s" for step in steps]
    write_png(path, contact_sheet(rows, labels, columns, height=_height(rows[0][0]), group=3))


def long_sheet(path: Path, shown: Mapping[str, Mapping[int, Tensor]], hz: float, pixel_aspect: float = 1.0) -> None:
    """Long dreams at a few steps, a row a drive. shown: see `Moments`."""
    steps = list(next(iter(shown.values())))
    rows = [
        [widen(to_images(picture[None]), pixel_aspect)[0] for picture in moments.values()] for moments in shown.values()
    ]
    columns = ["last real", *(f"+{step}  {step / hz:.1f} s" for step in steps[1:])]
    write_png(path, contact_sheet(rows, list(shown), columns, height=_height(rows[0][0])))


def _height(picture: Image) -> int:
    """Of a tile on a sheet."""
    h, w = picture.shape[:2]
    return max(48, min(112, 160 * h // w))


def film(shown: Sequence[Rollout], hz: float, pixel_aspect: float = 1.0, height: int = 288) -> Iterator[Image]:
    """Frames of a film: each clip's context, then real, dream and their difference, with what the driver does below."""
    for number, rollout in enumerate(shown, start=1):
        seen, real, predicted = (
            widen(to_images(x), pixel_aspect) for x in (rollout.seen, rollout.real, rollout.predicted)
        )
        context = len(seen)
        actions = rollout.actions.numpy()
        for t in range(context + len(real)):
            ahead = t - context + 1
            truth = seen[t] if ahead <= 0 else real[ahead - 1]
            dream = truth if ahead <= 0 else predicted[ahead - 1]
            footer = height // 3
            canvas = side_by_side(
                [truth, dream, difference(truth, dream)],
                ["real", "dream" if ahead > 0 else "context", "difference ×2"],
                height=height,
                footer=footer,
            )
            canvas = overlay_action(canvas, actions[max(t - 1, 0)], footer)
            state = f"+{ahead} ({ahead / hz:.2f} s)" if ahead > 0 else "context, as recorded"
            text = f"{number}/{len(shown)}   {rollout.clip.drive}   {state}"
            where = (canvas.shape[1] - height // 24, canvas.shape[0] - footer / 2)
            yield write_on(canvas, [(text, where, "rm")], size=max(11, height // 16), colour=(196, 200, 208))
