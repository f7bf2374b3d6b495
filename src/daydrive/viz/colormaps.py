"""Perceptually uniform colormaps that stay readable in greyscale, with their legends, and layout of tiles.

Legends and sheets have a white background.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from daydrive.types import Image
from daydrive.viz.images import FAINT, INK, PAPER, action_panel, text_width, write_on

Map = npt.NDArray[np.floating]
"""(H, W)."""

LETTERS = 14
ERRORS, SHARES, VALUES = cv2.COLORMAP_INFERNO, cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_CIVIDIS
"""Colormaps for errors, for fractions in [0, 1] and for other values; low values are dark in all of them."""

_PALE, _DEEP, _VIVID = 97.0, 55.0, 50.0
"""CIELAB lightness at zero and at maximum motion, and maximum chroma; all directions stay inside the sRGB gamut."""


def apply_colormap(values: Map, low: float, high: float, colours: int) -> Image:
    """(H, W) → (H, W, 3); values are clipped to [low, high], `low` is dark and `high` bright."""
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    mapped = cv2.applyColorMap(np.round(255 * share).astype(np.uint8), colours)
    return np.asarray(cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def flow_to_colours(motion: npt.NDArray[np.floating], most: float) -> Image:
    """Motion (2, H, W), x to the right and y down, → (H, W, 3): white for no motion, darkest from `most` pixels on.

    The hue gives the direction: left yellow, right blue (distinguishable with most colour deficiencies), up green,
    down red.
    """
    x, y = motion
    speed = np.hypot(x, y)
    share = np.clip(speed / max(most, 1e-12), 0, 1)
    unit = np.divide(share, speed, out=np.zeros_like(share), where=speed > 0)
    lab = np.stack([_PALE - (_PALE - _DEEP) * share, _VIVID * unit * y, -_VIVID * unit * x], axis=-1)
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def with_arrows(tile: Image, motion: npt.NDArray[np.floating], most: float, across: int = 6) -> Image:
    """A copy with a grid of about `across` arrows per row. Length is proportional to the motion (2, h, w); an arrow of
    `most` pixels reaches the next grid point."""
    height, width = tile.shape[:2]
    rows, columns = motion.shape[1:]
    step = width / across
    out = tile.copy()
    for y in np.arange(step / 2, height, step):
        for x in np.arange(step / 2, width, step):
            vector = motion[:, int(y * rows / height), int(x * columns / width)]
            arrow = vector * step / max(most, 1e-12)
            if np.hypot(*arrow) < 3:
                continue
            ends = [(round(float(x - arrow[0] / 2)), round(float(y - arrow[1] / 2)))]
            ends.append((round(float(x + arrow[0] / 2)), round(float(y + arrow[1] / 2))))
            for colour, thick in ((INK, 3), (PAPER, 1)):
                cv2.arrowedLine(out, ends[0], ends[1], colour, thick, cv2.LINE_AA, tipLength=0.3)
    return out


def tile_height(image: Image, most: int) -> int:
    """Height in pixels at which to draw an image: `most`, less for wide images so that a row of tiles stays short."""
    height, width = image.shape[:2]
    return max(48, min(most, round(1.5 * most * height / width)))


def resize_nearest(image: Image, like: Image) -> Image:
    """Resize to the size of `like` with nearest-neighbour interpolation."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(like.shape[:2], image.shape[:2], strict=True))
    return np.asarray(image[rows][:, columns])


def annotate_tile(tile: Image, text: str) -> Image:
    """A copy with a short text on a dark background in the upper left corner."""
    size = max(9, min(LETTERS, tile.shape[0] // 8))
    out = tile.copy()
    out[: size + 4, : text_width(text, size) + 6] = INK
    return write_on(out, [(text, (3, size / 2 + 2), "lm")], size=size, colour=PAPER)


def steering_wheel(steering: float, like: Image) -> Image:
    """The steering wheel at `steering` in [-1, 1], on a dark tile of the size of `like`."""
    height, width = like.shape[:2]
    side = min(height, width)
    drawn = action_panel((steering, 0, 0, 1), side)[:, :side]
    tile = np.empty_like(like)
    tile[:] = drawn[0, 0]
    y, x = (height - side) // 2, (width - side) // 2
    tile[y : y + side, x : x + side] = drawn
    return tile


def colour_scale(colours: int, low: str, high: str, meaning: str, width: int = 180) -> Image:
    """A legend: the colormap from `low` to `high`, and the quantity that it shows."""
    ramp = apply_colormap(np.tile(np.linspace(0, 1, width), (LETTERS, 1)), 0, 1, colours)
    return _legend(ramp, low, high, meaning)


def direction_legend(meaning: str, height: int = 72) -> Image:
    """The legend of `flow_to_colours`: a disc with zero motion in its centre."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : height * 1j]
    disc = flow_to_colours(np.stack([x, y]), 1.0)
    disc[np.hypot(x, y) > 1] = 255
    return _legend(disc, "", "", meaning)


def _legend(sample: Image, low: str, high: str, meaning: str) -> Image:
    height, width = sample.shape[:2]
    left = LETTERS + (text_width(low, LETTERS) + 8 if low else 0)
    after = left + width + 8
    text = f"{high}   {meaning}".strip()
    canvas: Image = np.full((height + LETTERS, after + text_width(text, LETTERS) + LETTERS, 3), 255, np.uint8)
    top = LETTERS // 2
    canvas[top : top + height, left : left + width] = sample
    middle = top + height / 2
    texts = [(low, (left - 8, middle), "rm"), (text, (after, middle), "lm")]
    return write_on(canvas, texts, size=LETTERS, colour=FAINT)


def stack_vertically(images: Sequence[Image]) -> Image:
    """Images below each other, left-aligned on white."""
    width = max(image.shape[1] for image in images)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in images])


def stack_horizontally(images: Sequence[Image]) -> Image:
    """Images next to each other, top-aligned on white."""
    height = max(image.shape[0] for image in images)
    return np.concatenate(
        [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in images], axis=1
    )


def round_up(value: float) -> float:
    """The next round number, as the end of a scale."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9)))
