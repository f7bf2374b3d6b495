"""How the model paints: what it moves, what it takes for new, and what of the last real image is left.

Two things are shown of each step: what moved and was painted in it, and what is left of the last real picture by then,
see `daydrive.models.MotionFields`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from daydrive.errors import UserError
from daydrive.models import HasMotion
from daydrive.models.rollout import device_of, rollout_states
from daydrive.types import Image, to_signed, to_uint8
from daydrive.viz.colormaps import (
    SHARES,
    coloured,
    compass,
    directions,
    noted,
    round_up,
    scale,
    stacked,
    tile_height,
    with_arrows,
)
from daydrive.viz.images import Images, contact_sheet, enlarge, to_images, widen
from daydrive.viz.views.clips import Inside, shown_steps, step_names

Maps = npt.NDArray[np.float32]


class PaintedRollout(NamedTuple):
    """N steps of a dream.

    real, predicted, paint: uint8 (N, H, W, 3); `paint` is the painted layer on white. motion: (N, 2, H, W), where to
    the image moved in the step, in pixels, x to the right and y down; new, left: (N, H, W) in [0, 1], what the step
    paints anew, and how much of the last real image still shows.
    """

    real: Images
    predicted: Images
    paint: Images
    motion: Maps
    new: Maps
    left: Maps

    @property
    def fastest(self) -> float:
        """Pixels at which the scale of motion ends: hardly anything is faster."""
        return round_up(float(np.quantile(np.hypot(self.motion[:, 0], self.motion[:, 1]), 0.99)))


def paint_rollout(inside: Inside) -> PaintedRollout:
    """The clip predicted, and what the model held at every step."""
    model, seen, real, actions = inside.model, inside.seen, inside.real, inside.actions
    if not isinstance(model, HasMotion):
        raise UserError(
            f"{inside.kind} has no motion to show: it makes each frame without moving the one before; rollout, fan, "
            "error and sheet are of any model"
        )
    device = device_of(model)
    steps = []
    for state, frame in rollout_states(model, to_signed(seen[None].to(device)), actions[None].to(device)):
        motion = model.motion_fields(state)
        pictures = (frame, motion.overlay + motion.kept)  # the white paper shows where nothing is painted
        maps = (-motion.flow, motion.new[:, 0], motion.kept[:, 0])
        steps.append([*(to_uint8(x.clamp(-1, 1))[0].cpu() for x in pictures), *(x[0].float().cpu() for x in maps)])
    predicted, paint, moved, new, left = (torch.stack(parts) for parts in zip(*steps, strict=True))
    return PaintedRollout(
        to_images(real), to_images(predicted), to_images(paint), moved.numpy(), new.numpy(), left.numpy()
    )


def sheet(shown: PaintedRollout, name: str, hz: float, pixel_aspect: float = 1.0) -> Image:
    """A row each, columns are steps."""
    steps = shown_steps(len(shown.predicted))
    height = tile_height(widen(shown.predicted[:1], pixel_aspect)[0], 112)
    columns = [_tiles(shown, t - 1, pixel_aspect, height) for t in steps]
    rows = [[column[label] for column in columns] for label in columns[0]]
    title = f"{name}: what the model moves, and what it paints"
    drawn = contact_sheet(rows, list(columns[0]), step_names(steps, hz), title=title, height=height)
    return stacked([drawn, _legend(shown)])


def video(shown: PaintedRollout, name: str, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same step by step, two rows."""
    height = tile_height(widen(shown.predicted[:1], pixel_aspect)[0], 176)
    legend = _legend(shown)
    for t in range(len(shown.predicted)):
        tiles = {label: noted(tile, label) for label, tile in _tiles(shown, t, pixel_aspect, height).items()}
        upper = [tiles[label] for label in ("real", "dream", "motion")]
        lower = [tiles[label] for label in ("new in this step", "real image left", "painted layer")]
        title = f"{name}  +{t + 1}  {(t + 1) / hz:.2f} s"
        yield stacked([contact_sheet([upper, lower], ["", ""], title=title, height=height), legend])


def _tiles(shown: PaintedRollout, t: int, pixel_aspect: float, height: int) -> dict[str, Image]:
    """By what they show; a motion is drawn twice, as colours and as arrows on the dream."""

    def tile(picture: Image) -> Image:
        (wide,) = widen(picture[None], pixel_aspect)
        return enlarge(wide, height)

    motion = shown.motion[t]
    return {
        "real": tile(shown.real[t]),
        "dream": with_arrows(tile(shown.predicted[t]), motion, shown.fastest),
        "motion": tile(directions(motion, shown.fastest)),
        "new in this step": tile(coloured(shown.new[t], 0, 1, SHARES)),
        "real image left": tile(coloured(shown.left[t], 0, 1, SHARES)),
        "painted layer": tile(shown.paint[t]),
    }


def _legend(shown: PaintedRollout) -> Image:
    fast = f"{shown.fastest:g} pixels a step or more"
    text = f"where to the image moves; at the rim, or by an arrow that reaches the next, {fast}"
    return stacked([scale(SHARES, "0", "1", "share of a pixel's colour"), compass(text)])
