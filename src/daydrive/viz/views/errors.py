"""Error maps by steps ahead: where predictions are wrong and how errors grow, beside the copy-last baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from daydrive.types import Image
from daydrive.viz.colormaps import (
    ERRORS,
    annotate_tile,
    apply_colormap,
    colour_scale,
    round_up,
    stack_vertically,
    tile_height,
)
from daydrive.viz.images import contact_sheet, enlarge, to_images, widen
from daydrive.viz.views.clips import PredictedClip, shown_steps, step_names

Maps = npt.NDArray[np.float32]
"""(N, H, W): absolute difference, mean over the colour channels, in levels from 0 to 255."""


class Errors(NamedTuple):
    """Error maps of prediction and copy-last baseline: of the first clip, and means over all `clips` clips."""

    first: PredictedClip
    clips: int
    predicted: Maps
    copied: Maps
    mean_predicted: Maps
    mean_copied: Maps

    @property
    def top(self) -> float:
        """End of the colour scale: just above the 99.5th percentile."""
        return round_up(float(np.quantile(np.stack(self[2:]), 0.995)))


def error_maps(a: Tensor, b: Tensor) -> Maps:
    """|a - b| of uint8 (N, 3, H, W), mean over the colour channels."""
    return np.asarray((a.float() - b.float()).abs().mean(dim=1).numpy(), dtype=np.float32)


def errors(clips: Iterable[PredictedClip]) -> Errors:
    """Error maps of the first clip and means over all; holds the first clip and one other in memory."""
    others = iter(clips)
    first = next(others)
    predicted, copied = _both(first)
    count, sums = 1, [predicted, copied]
    for one in others:
        count += 1
        sums = [total + maps for total, maps in zip(sums, _both(one), strict=True)]
    return Errors(first, count, predicted, copied, *(total / np.float32(count) for total in sums))


def _both(one: PredictedClip) -> tuple[Maps, Maps]:
    return error_maps(one.predicted, one.real), error_maps(one.copied, one.real)


def sheet(found: Errors, hz: float, pixel_aspect: float = 1.0) -> Image:
    """Mean maps over the clips and maps of the first clip, prediction above baseline, each labelled with its mean."""
    steps = shown_steps(len(found.predicted))
    real, predicted = (widen(to_images(x), pixel_aspect) for x in (found.first.real, found.first.predicted))
    height = tile_height(real[0], 112)
    rows, labels = [], []
    for name, pair in _pairs(found).items():
        rows += [[_drawn(maps[t - 1], found.top, height, pixel_aspect) for t in steps] for maps in pair]
        labels += [f"{name}: predicted", "last image copied"]
    rows += [[enlarge(frames[t - 1], height) for t in steps] for frames in (real, predicted)]
    labels += ["real", "predicted"]
    drawn = contact_sheet(rows, labels, step_names(steps, hz), title="Errors by steps ahead", height=height, group=2)
    return stack_vertically([drawn, _legend(found.top)])


def video(found: Errors, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same step by step, with the images of the first clip below its errors."""
    predicted = widen(to_images(found.first.predicted), pixel_aspect)
    (last,) = widen(to_images(found.first.seen[-1:]), pixel_aspect)
    height = tile_height(last, 176)
    legend = _legend(found.top)
    pairs = _pairs(found)
    for t, image in enumerate(predicted):
        rows = [[_drawn(maps[t], found.top, height, pixel_aspect) for maps in pair] for pair in pairs.values()]
        title = f"errors  +{t + 1}  {(t + 1) / hz:.2f} s"
        drawn = contact_sheet(
            [*rows, [image, last]], [*pairs, "images"], ["predicted", "copied"], title=title, height=height
        )
        yield stack_vertically([drawn, legend])


def _pairs(found: Errors) -> dict[str, tuple[Maps, Maps]]:
    """Maps of prediction and baseline by label: the mean over all clips, and the first clip."""
    first = {found.first.name: (found.predicted, found.copied)}
    return first if found.clips == 1 else {f"{found.clips} clips": (found.mean_predicted, found.mean_copied)} | first


def _drawn(errors: Maps, top: float, height: int, pixel_aspect: float) -> Image:
    (tile,) = widen(apply_colormap(errors, 0, top, ERRORS)[None], pixel_aspect)
    return annotate_tile(enlarge(tile, height), f"{errors.mean():.1f}")


def _legend(top: float) -> Image:
    return colour_scale(
        ERRORS, "0", f"{top:g} levels of 255 or more", "mean absolute difference; the number is the mean of the map"
    )
