"""Plots of an evaluation: curves with baselines, strips of frames, videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from daydrive.report.rows import BASELINES
from daydrive.report.tables import format_number, format_with_interval
from daydrive.types import Image, Rollout
from daydrive.viz.charts import FAINT, line_styles, new_figure, render_figure, style_axis
from daydrive.viz.colormaps import ERRORS, apply_colormap, colour_scale, round_up, stack_vertically
from daydrive.viz.images import (
    contact_sheet,
    difference,
    enlarge,
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
BRANCH_STEPS = (1, 3, 5, 8, 10)
_MODEL, _COPY, _SHUFFLED = "#0072B2", "#D55E00", "#4D4D4D"
_STYLES = (
    (_MODEL, "-", "o", 2.2), (_COPY, "--", "s", 1.6), ("#009E73", "-.", "D", 1.4), ("#B0B4BC", (0, (4, 1)), "v", 1.4),
    (_SHUFFLED, ":", "^", 1.6), ("#CC79A7", (0, (1, 3)), "x", 1.4),
)  # fmt: skip
"""Colour, dash, marker, width: the colours of Okabe and Ito, distinguishable in greyscale by dash and marker."""


def horizon_curves(path: Path, evaluation: dict[str, Any]) -> None:
    """Plots PSNR, SSIM, sharpness and flicker over the steps with the model's confidence intervals. Lines differ in
    colour, lightness, dash and marker."""
    horizons = evaluation["horizons"]
    steps = [entry["step"] for entry in horizons]
    figure = new_figure(12, 4.2)
    axes = figure.subplots(1, 3)
    _curves(axes[0], "PSNR (dB)", horizons, {"model": "psnr", **BASELINES})
    _curves(axes[1], "SSIM", horizons, {"model": "ssim", "last frame copied": "copy_last_ssim"})
    _curves(axes[2], "relative to real frames", horizons, {"sharpness": "sharpness", "flicker": "flicker"})
    axes[2].axhline(1.0, color=_SHUFFLED, linewidth=1.2, linestyle=(0, (1, 2)))
    axes[2].annotate("real frames", (steps[0], 1.0), (0, 5), textcoords="offset points", color=_SHUFFLED, fontsize=9)
    axes[2].set_ylim(0, max(1.15, axes[2].get_ylim()[1]))
    for axis in (axes[0], axes[2]):
        axis.legend(*axis.get_legend_handles_labels(), frameon=False, fontsize=8, loc="best")
    for axis in axes:
        axis.set_xlabel(f"steps ahead ({evaluation['hz']:g} per second)", color=FAINT)
    title = f"{evaluation['clips']} clips, split '{evaluation['split']}', {evaluation['context']} frames of context"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    write_png(path, render_figure(figure))


def _curves(axis: Axes, name: str, horizons: Sequence[dict[str, Any]], curves: dict[str, str]) -> None:
    """Plots entries of `horizons` by label, the first with its interval."""
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
    style_axis(axis, name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set_xlim(min(steps) - 0.5, max(steps) + 0.5)


def rankings(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Plots each driver's score in the model over that in the simulator, one panel for each result of `daydrive rank`,
    with Spearman's coefficient and that of the model with other actions."""
    figure = new_figure(9, 4.6 * len(results))
    for axis, result in zip(figure.subplots(len(results), squeeze=False)[:, 0], results, strict=True):
        found = result["horizons"][result["main_horizon"]]
        scores = dict(sorted(found["lane_error"].items(), key=lambda item: item[1]["simulator"]))
        for (name, score), style in zip(scores.items(), line_styles(len(scores)), strict=True):
            point = (score["simulator"], score["model"])
            axis.plot(*point, color=style.colour, marker=style.marker, markersize=8, linestyle="none", label=name)
        end = 1.08 * max(max(score.values()) for score in scores.values()) or 1.0
        axis.plot([0, end], [0, end], color=_SHUFFLED, linewidth=1.2, linestyle=(0, (1, 2)))
        axis.set(xlim=(0, end), ylim=(0, end), xlabel="in the simulator, m", ylabel="in the model, m", aspect="equal")
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
        spearman = f"Spearman {format_with_interval(found['spearman'], found['spearman_interval'])}"
        style_axis(axis, f"{spearman}; actions ignored: {format_number(found['cheat_spearman'])}", grid="both")
    write_png(path, render_figure(figure))


def step_labels(steps: Sequence[int], hz: float) -> list[str]:
    """Labels of steps with their time in seconds."""
    return [f"+{step}  {step / hz:.2f} s" for step in steps]


def strip(
    path: Path, shown: Sequence[Rollout], hz: float, clips: int, pixel_aspect: float = 1.0, which: str = "evenly spaced"
) -> None:
    """Draws real, predicted and copied frames of a few clips at increasing steps.

    clips: number of evaluated clips. pixel_aspect: width / height of a pixel. which: how the clips were selected, for
    the title.
    """
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
        step_labels(steps, hz),
        title=f"{len(shown)} of {clips} clips, {which}",
        height=_height(rows[0][0]),
        group=3,
    )
    write_png(path, sheet)


class NearestClip(NamedTuple):
    """predicted, training, real: uint8 (N, 3, H, W), with `training` nearest to the prediction; psnr in dB."""

    predicted: Tensor
    training: Tensor
    real: Tensor
    psnr: float


def nearest_sheet(path: Path, shown: Sequence[NearestClip], hz: float, pixel_aspect: float = 1.0) -> None:
    """Draws rollouts, the nearest training clips, and the real frames."""
    count = min(len(clip.training) for clip in shown)
    steps = [step for step in STRIP_STEPS if step <= count]
    rows, labels = [], []
    for clip in shown:
        for frames in (clip.predicted, clip.training, clip.real):
            images = widen(to_images(frames[:count]), pixel_aspect)
            rows.append([images[step - 1] for step in steps])
        labels += ["predicted", f"nearest in training, {clip.psnr:.1f} dB", "real"]
    write_png(path, contact_sheet(rows, labels, step_labels(steps, hz), height=_height(rows[0][0]), group=3))


def long_sheet(path: Path, shown: Mapping[str, Mapping[int, Tensor]], hz: float, pixel_aspect: float = 1.0) -> None:
    """Draws long rollouts at a few steps, one row per drive. shown: frames uint8 (3, H, W) by drive and step, where
    step 0 is the last real frame."""
    steps = list(next(iter(shown.values())))
    rows = [[widen(to_images(frame[None]), pixel_aspect)[0] for frame in frames.values()] for frames in shown.values()]
    columns = ["last real", *(f"+{step}  {step / hz:.1f} s" for step in steps[1:])]
    write_png(path, contact_sheet(rows, list(shown), columns, height=_height(rows[0][0])))


class SampledClip(NamedTuple):
    """Futures of a clip at S steps. real, deterministic: uint8 (S, 3, H, W); samples: uint8 (K, S, 3, H, W); spread:
    standard deviation of the samples in grey levels, (S, H, W)."""

    real: Tensor
    deterministic: Tensor
    samples: Tensor
    spread: Tensor


def samples_sheet(
    path: Path, shown: Sequence[SampledClip], steps: Sequence[int], hz: float, pixel_aspect: float = 1.0
) -> None:
    """Draws real frames, the rollout without randomness, sampled ones, and a map of their spread; one row per clip and
    step."""
    most = round_up(max(float(clip.spread.max()) for clip in shown))
    rows, labels = [], []
    for clip in shown:
        frames = [widen(to_images(x), pixel_aspect) for x in (clip.real, clip.deterministic, *clip.samples)]
        maps = np.stack([apply_colormap(spread, 0, most, ERRORS) for spread in clip.spread.numpy()])
        rows += [list(row) for row in zip(*frames, widen(maps, pixel_aspect), strict=True)]
        labels += step_labels(steps, hz)
    samples = [f"sample {k + 1}" for k in range(len(shown[0].samples))]
    sheet = contact_sheet(
        rows, labels, ["real", "deterministic", *samples, "spread"], height=_height(rows[0][0]), group=len(steps)
    )
    legend = colour_scale(ERRORS, "0", f"{most:g}", "spread: standard deviation of all samples, grey levels of 255")
    write_png(path, stack_vertically([sheet, legend]))


class BranchClip(NamedTuple):
    """The K branches of a moment. seen: uint8 (C, 3, H, W); actions: float32 (K, C-1+N, 4); real, predicted: uint8
    (K, N, 3, H, W), by the simulator and by the model."""

    seen: Tensor
    actions: Tensor
    real: Tensor
    predicted: Tensor


def branch_sheet(names: Sequence[str], shown: BranchClip, hz: float) -> Image:
    """Draws the true and predicted frames of each branch: the last context frame and a few steps."""
    steps = [t for t in BRANCH_STEPS if t <= shown.predicted.shape[1]]
    last = to_images(shown.seen[-1])
    rows, labels = [], []
    for b, name in enumerate(names):
        for label, frames in (("real", shown.real[b]), ("predicted", shown.predicted[b])):
            images = to_images(frames)
            rows.append([last, *(images[t - 1] for t in steps)])
            labels.append(f"{label}, {name}")
    heads = ["last context frame", *step_labels(steps, hz)]
    h, w = last.shape[:2]
    return contact_sheet(
        rows, labels, heads, title="One moment, three commands", height=max(48, min(128, 160 * h // w)), group=2
    )


def branch_video(names: Sequence[str], shown: Iterable[BranchClip], hz: float, height: int = 224) -> Iterator[Image]:
    """Yields frames with the branches side by side, real above predicted, with the actions given to the model."""
    for clip in shown:
        seen, real, predicted = to_images(clip.seen), to_images(clip.real), to_images(clip.predicted)
        context = len(seen)
        for t in range(context + real.shape[1]):
            ahead = t - context + 1
            state = f"+{ahead} ({ahead / hz:.2f} s)" if ahead > 0 else "context"
            rows = []
            for label, frames in (("real", real), ("predicted", predicted)):
                images = [seen[t] if ahead <= 0 else frames[b, ahead - 1] for b in range(len(names))]
                tiles = [enlarge(image, height) for image in images]
                if label == "predicted":
                    commands = clip.actions[:, max(t - 1, 0)]
                    tiles = [overlay_action(tile, action) for tile, action in zip(tiles, commands, strict=True)]
                rows.append(side_by_side(tiles, [f"{label}, {name}   {state}" for name in names], height=height))
            yield np.concatenate(rows)


def _height(image: Image) -> int:
    """Height of a tile of a contact sheet."""
    h, w = image.shape[:2]
    return max(48, min(112, 160 * h // w))


def video(shown: Sequence[Rollout], hz: float, pixel_aspect: float = 1.0, height: int = 288) -> Iterator[Image]:
    """Yields frames with real, predicted and difference side by side, for each clip's context and prediction, with the
    actions below."""
    for number, rollout in enumerate(shown, start=1):
        seen, real, predicted = (
            widen(to_images(x), pixel_aspect) for x in (rollout.seen, rollout.real, rollout.predicted)
        )
        context = len(seen)
        actions = rollout.actions.numpy()
        for t in range(context + len(real)):
            ahead = t - context + 1
            truth = seen[t] if ahead <= 0 else real[ahead - 1]
            prediction = truth if ahead <= 0 else predicted[ahead - 1]
            footer = height // 3
            canvas = side_by_side(
                [truth, prediction, difference(truth, prediction)],
                ["real", "predicted" if ahead > 0 else "context", "difference ×2"],
                height=height,
                footer=footer,
            )
            canvas = overlay_action(canvas, actions[max(t - 1, 0)], footer)
            state = f"+{ahead} ({ahead / hz:.2f} s)" if ahead > 0 else "recorded context"
            text = f"{number}/{len(shown)}   {rollout.clip.drive}   {state}"
            where = (canvas.shape[1] - height // 24, canvas.shape[0] - footer / 2)
            yield write_on(canvas, [(text, where, "rm")], size=max(11, height // 16), colour=(196, 200, 208))
