"""How a model with motion builds its frames: flow, new content, and how much of the last real frame still shows.

See `daydrive.models.MotionFields`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from daydrive.models import HasMotion
from daydrive.types import Image, to_uint8
from daydrive.viz.colormaps import (
    SHARES,
    annotate_tile,
    apply_colormap,
    colour_scale,
    direction_legend,
    flow_to_colours,
    round_up,
    stack_vertically,
    tile_height,
    with_arrows,
)
from daydrive.viz.images import Images, contact_sheet, enlarge, to_images, widen
from daydrive.viz.views.clips import ModelClip, shown_steps, step_names

Maps = npt.NDArray[np.float32]


class MotionView(NamedTuple):
    """N steps of a rollout.

    real, predicted, overlay: uint8 (N, H, W, 3); `overlay` is the generated content on white. motion: (N, 2, H, W),
    motion of the image in the step, in pixels, x to the right and y down; new, retained: (N, H, W) in [0, 1], the mask
    of content generated in the step, and how much of the last real frame still shows.
    """

    real: Images
    predicted: Images
    overlay: Images
    motion: Maps
    new: Maps
    retained: Maps

    @property
    def fastest(self) -> float:
        """End of the motion scale in pixels: just above the 99th percentile."""
        return round_up(float(np.quantile(np.hypot(self.motion[:, 0], self.motion[:, 1]), 0.99)))


def view_motion(model_clip: ModelClip) -> MotionView:
    """Predict the clip and collect the motion fields of every step; raises UserError for a model without them."""
    model = model_clip.model
    if not isinstance(model, HasMotion):
        raise model_clip.cannot_show("no motion to show: it does not warp previous frames")
    steps = []
    for state, frame in model_clip.predicted_states():
        motion = model.motion_fields(state)
        images = (frame, motion.overlay + motion.retained)  # white where nothing was generated
        maps = (-motion.flow, motion.new[:, 0], motion.retained[:, 0])
        steps.append([*(to_uint8(x.clamp(-1, 1))[0].cpu() for x in images), *(x[0].float().cpu() for x in maps)])
    predicted, overlay, moved, new, retained = (torch.stack(values) for values in zip(*steps, strict=True))
    return MotionView(
        to_images(model_clip.real), to_images(predicted), to_images(overlay),
        moved.numpy(), new.numpy(), retained.numpy(),
    )  # fmt: skip


def sheet(shown: MotionView, name: str, hz: float, pixel_aspect: float = 1.0) -> Image:
    """One row per quantity; columns are steps."""
    steps = shown_steps(len(shown.predicted))
    height = tile_height(widen(shown.predicted[:1], pixel_aspect)[0], 112)
    columns = [_tiles(shown, t - 1, pixel_aspect, height) for t in steps]
    rows = [[column[label] for column in columns] for label in columns[0]]
    title = f"{name}: motion and generated content"
    drawn = contact_sheet(rows, list(columns[0]), step_names(steps, hz), title=title, height=height)
    return stack_vertically([drawn, _legend(shown)])


def video(shown: MotionView, name: str, hz: float, pixel_aspect: float = 1.0) -> Iterator[Image]:
    """The same step by step, in two rows."""
    height = tile_height(widen(shown.predicted[:1], pixel_aspect)[0], 176)
    legend = _legend(shown)
    for t in range(len(shown.predicted)):
        tiles = {label: annotate_tile(tile, label) for label, tile in _tiles(shown, t, pixel_aspect, height).items()}
        upper = [tiles[label] for label in ("real", "predicted", "motion")]
        lower = [tiles[label] for label in ("new in this step", "real image left", "overlay")]
        title = f"{name}  +{t + 1}  {(t + 1) / hz:.2f} s"
        yield stack_vertically([contact_sheet([upper, lower], ["", ""], title=title, height=height), legend])


def _tiles(shown: MotionView, t: int, pixel_aspect: float, height: int) -> dict[str, Image]:
    """Tiles by label; motion is drawn as colours and as arrows on the predicted frame."""

    def tile(image: Image) -> Image:
        (wide,) = widen(image[None], pixel_aspect)
        return enlarge(wide, height)

    motion = shown.motion[t]
    return {
        "real": tile(shown.real[t]),
        "predicted": with_arrows(tile(shown.predicted[t]), motion, shown.fastest),
        "motion": tile(flow_to_colours(motion, shown.fastest)),
        "new in this step": tile(apply_colormap(shown.new[t], 0, 1, SHARES)),
        "real image left": tile(apply_colormap(shown.retained[t], 0, 1, SHARES)),
        "overlay": tile(shown.overlay[t]),
    }


def _legend(shown: MotionView) -> Image:
    text = f"motion of the image; at the rim, or an arrow to the next one: {shown.fastest:g} pixels a step or more"
    return stack_vertically([colour_scale(SHARES, "0", "1", "fraction of a pixel's colour"), direction_legend(text)])
