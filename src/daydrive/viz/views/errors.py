"""Where dreams are wrong, and how that grows: maps of the error by steps ahead, beside those of copying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from daydrive.types import Image
from daydrive.viz.colormaps import ERRORS, coloured, noted, round_up, scale, stacked, tile_height
from daydrive.viz.images import contact_sheet, enlarge, to_images, widen
from daydrive.viz.views.clips import PredictedClip, shown_steps, step_names

Maps = npt.NDArray[np.float32]
"""(N, H, W), mean absolute difference over the colours, levels 0 to 255."""


class Errors(NamedTuple):
    """first: one of so many `clips`; its maps are `dream` and `copied`, the means over all clips `mean_dream` and
    `mean_copied`."""

    first: PredictedClip
    clips: int
    dream: Maps
    copied: Maps
    mean_dream: Maps
    mean_copied: Maps

    @property
    def top(self) -> float:
        """Where the scale ends: hardly anything is above."""
        return round_up(float(np.quantile(np.stack(self[2:]), 0.995)))


def error_maps(a: Tensor, b: Tensor) -> Maps:
    """|a - b| of uint8 (N, 3, H, W), mean over the colours."""
    return np.asarray((a.float() - b.float()).abs().mean(dim=1).numpy(), dtype=np.float32)


def errors(clips: Iterable[PredictedClip]) -> Errors:
    """One clip is held at a time, and the first."""
    others = iter(clips)
    first = next(others)
    dream, copied = _both(first)
    count, sums = 1, [dream, copied]
    for one in others:
        count += 1
        sums = [total + maps for total, maps in zip(sums, _both(one), strict=True)]
    return Errors(first, count, dream, copied, *(total / np.float32(count) for total in sums))


def _both(one: PredictedClip) -> tuple[Maps, Maps]:
    return error_maps(one.predicted, one.real), error_maps(one.copied, one.real)


def sheet(found: Errors, hz: float, pixel_aspect: float = 1.0) -> Image:
    """Maps of the mean over the clips and of the first one, the dream's above the copy's, each with its own mean."""
    steps = shown_steps(len(found.dream))
    real, dream = (widen(to_images(x), pixel_aspect) for x in (found.first.real, found.first.predicted))
    height = tile_height(real[0], 112)
    rows, labels = [], []
    for name, pair in _pairs(found).items():
        rows += [[_drawn(maps[t - 1], found.top, height, pixel_aspect) for t in steps] for maps in pair]
        labels += [f"{name}: dream", "last image copied"]
    rows += [[enlarge(frames[t - 1], height) for t in steps] for frames in (real, dream)]
    labels += ["real", "predicted"]
    drawn = contact_sheet(rows, labels, step_names(steps, hz), title="Errors by steps ahead", height=height, group=2)
    return stacked([drawn, _legend(found.top)])


def video(found: Errors, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same step by step, with the images of the clip below its errors."""
    predicted = widen(to_images(found.first.predicted), pixel_aspect)
    (last,) = widen(to_images(found.first.seen[-1:]), pixel_aspect)
    height = tile_height(last, 176)
    legend = _legend(found.top)
    pairs = _pairs(found)
    for t, image in enumerate(predicted):
        rows = [[_drawn(maps[t], found.top, height, pixel_aspect) for maps in pair] for pair in pairs.values()]
        title = f"errors  +{t + 1}  {(t + 1) / hz:.2f} s"
        drawn = contact_sheet(
            [*rows, [image, last]], [*pairs, "its images"], ["dream", "copied"], title=title, height=height
        )
        yield stacked([drawn, legend])


def _pairs(found: Errors) -> dict[str, tuple[Maps, Maps]]:
    """Of the dream and of the copy, by what they are of."""
    alone = {found.first.name: (found.dream, found.copied)}
    return alone if found.clips == 1 else {f"{found.clips} clips": (found.mean_dream, found.mean_copied)} | alone


def _drawn(errors: Maps, top: float, height: int, pixel_aspect: float) -> Image:
    (tile,) = widen(coloured(errors, 0, top, ERRORS)[None], pixel_aspect)
    return noted(enlarge(tile, height), f"{errors.mean():.1f}")


def _legend(top: float) -> Image:
    return scale(
        ERRORS, "0", f"{top:g} levels of 255 or more", "mean absolute difference; in the corner the map's mean"
    )
