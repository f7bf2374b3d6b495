"""Several clips side by side: real frames, predicted frames and their difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daydrive.types import Image
from daydrive.viz.colormaps import ERRORS, colour_scale, stack_horizontally, stack_vertically, tile_height
from daydrive.viz.images import contact_sheet, difference, enlarge, overlay_action, to_images, widen
from daydrive.viz.views.clips import PredictedClip, shown_steps, step_names

RANKED_HEIGHT = 80
"""Height of a tile on the ranked sheet, in pixels."""
TOGETHER = 4
"""Clips per column in a video; more clips go into further columns."""


def strip(shown: Sequence[PredictedClip], hz: float, pixel_aspect: float = 1.0) -> Image:
    """Rows: real, predicted and error of each clip. Columns: the last context frame and later steps, with actions."""
    steps = shown_steps(len(shown[0].real), 9)
    rows, labels = [], []
    for one in shown:
        real, predicted = (widen(to_images(x), pixel_aspect) for x in (one.real, one.predicted))
        (last,) = widen(to_images(one.seen[-1:]), pixel_aspect)
        height = tile_height(last, 112)
        actions = one.actions.numpy()[len(one.seen) - 1 :]
        driven = [overlay_action(enlarge(real[t - 1], height), actions[t - 1]) for t in steps]
        rows += [
            [last, *driven],
            [last, *(predicted[t - 1] for t in steps)],
            [difference(last, last), *(difference(real[t - 1], predicted[t - 1]) for t in steps)],
        ]
        labels += [f"{one.name}  real", "predicted", "error"]
    heads = ["last seen", *step_names(steps, hz)]
    return stack_vertically(
        [contact_sheet(rows, labels, heads, height=tile_height(rows[0][0], 112), group=3), _legend()]
    )


def video(shown: Sequence[PredictedClip], hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The context frames, then real, predicted and error of every clip side by side, with the driver's actions."""
    drawn = [[widen(to_images(x), pixel_aspect) for x in (one.seen, one.real, one.predicted)] for one in shown]
    context, steps = len(drawn[0][0]), len(drawn[0][1])
    height = tile_height(drawn[0][0][0], 224 if len(shown) == 1 else 160 if len(shown) <= 2 else 112)
    legend = _legend()
    for t in range(context + steps):
        ahead = t - context + 1
        rows = []
        for one, (seen, real, predicted) in zip(shown, drawn, strict=True):
            truth = seen[t] if ahead <= 0 else real[ahead - 1]
            image = truth if ahead <= 0 else predicted[ahead - 1]
            action = one.actions[max(t - 1, 0)].numpy()
            rows.append([overlay_action(enlarge(truth, height), action), image, difference(truth, image)])
        heads = ["real", "predicted" if ahead > 0 else "context", "error"]
        title = f"+{ahead}  {ahead / hz:.2f} s" if ahead > 0 else "as recorded"
        sheets = [
            contact_sheet(
                rows[i : i + TOGETHER], [one.name for one in shown[i : i + TOGETHER]], heads,
                title=title if i == 0 else " ", height=height,
            )
            for i in range(0, len(rows), TOGETHER)
        ]  # fmt: skip
        yield stack_vertically([stack_horizontally(sheets), legend])


def ranked_sheet(shown: Sequence[PredictedClip], hz: float, pixel_aspect: float = 1.0) -> Image:
    """Two rows per clip, real above predicted frames; clips sorted by PSNR margin over the copy-last baseline."""
    steps = shown_steps(len(shown[0].real), 10)
    rows, labels = [], []
    for one in sorted(shown, key=lambda one: one.mean_psnr[1] - one.mean_psnr[0]):
        real, predicted = (widen(to_images(x), pixel_aspect) for x in (one.real, one.predicted))
        (last,) = widen(to_images(one.seen[-1:]), pixel_aspect)
        value, baseline = one.mean_psnr
        rows += [[last, *(frames[t - 1] for t in steps)] for frames in (real, predicted)]
        labels += [f"{one.name}  real", f"{value:.1f} dB, {value - baseline:+.1f}  predicted"]
    title = f"{len(shown)} clips, best first: PSNR, and its margin over copying the last image"
    return contact_sheet(
        rows, labels, ["last seen", *step_names(steps, hz)], title=title, height=RANKED_HEIGHT, group=2
    )


def _legend() -> Image:
    return colour_scale(ERRORS, "0", "128 levels of 255 or more", "error: mean absolute difference over RGB")
