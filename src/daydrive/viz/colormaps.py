"""Numbers as colours, with their legends: maps that are even to the eye and still read in grey.

Legends and sheets lie on white paper.
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
"""Maps for errors, for shares from 0 to 1, and for values without a sign that matters: dark is low in all of them."""

_PALE, _DEEP, _VIVID = 97.0, 55.0, 50.0
"""Lightness at rest and at most, chroma at most (CIELAB), chosen so that every direction can be shown."""


def coloured(values: Map, low: float, high: float, colours: int) -> Image:
    """(H, W) → (H, W, 3); `low` and less is dark, `high` and more bright."""
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    mapped = cv2.applyColorMap(np.round(255 * share).astype(np.uint8), colours)
    return np.asarray(cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def directions(motion: npt.NDArray[np.floating], most: float) -> Image:
    """Motion (2, H, W), x to the right and y down, → (H, W, 3): white at rest, darker the faster, up to `most`.

    The colour says where to: left is yellow and right blue, which nearly everyone tells apart, up green and down red.
    """
    x, y = motion
    speed = np.hypot(x, y)
    share = np.clip(speed / max(most, 1e-12), 0, 1)
    unit = np.divide(share, speed, out=np.zeros_like(share), where=speed > 0)
    lab = np.stack([_PALE - (_PALE - _DEEP) * share, _VIVID * unit * y, -_VIVID * unit * x], axis=-1)
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.round(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def with_arrows(tile: Image, motion: npt.NDArray[np.floating], most: float, across: int = 6) -> Image:
    """A copy with about `across` arrows side by side, each as long as the motion there; `most` reaches the next one."""
    height, width = tile.shape[:2]
    rows, columns = motion.shape[1:]
    step = width / across
    out = tile.copy()
    for y in np.arange(step / 2, height, step):
        for x in np.arange(step / 2, width, step):
            move = motion[:, int(y * rows / height), int(x * columns / width)]
            ahead = move * step / max(most, 1e-12)
            if np.hypot(*ahead) < 3:
                continue
            ends = [(round(float(x - ahead[0] / 2)), round(float(y - ahead[1] / 2)))]
            ends.append((round(float(x + ahead[0] / 2)), round(float(y + ahead[1] / 2))))
            for colour, thick in ((INK, 3), (PAPER, 1)):
                cv2.arrowedLine(out, ends[0], ends[1], colour, thick, cv2.LINE_AA, tipLength=0.3)
    return out


def tile_height(image: Image, most: int) -> int:
    """Pixels that an image is drawn high: `most`, and less where it is wide, so that a row of them stays short."""
    height, width = image.shape[:2]
    return max(48, min(most, round(1.5 * most * height / width)))


def blocks(image: Image, like: Image) -> Image:
    """To the size of another image, each pixel a plain rectangle."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(like.shape[:2], image.shape[:2], strict=True))
    return np.asarray(image[rows][:, columns])


def noted(tile: Image, text: str) -> Image:
    """A copy with a few letters in its upper left corner, on a dark ground."""
    size = max(9, min(LETTERS, tile.shape[0] // 8))
    out = tile.copy()
    out[: size + 4, : text_width(text, size) + 6] = INK
    return write_on(out, [(text, (3, size / 2 + 2), "lm")], size=size, colour=PAPER)


def wheel(steering: float, like: Image) -> Image:
    """The steering wheel on a dark tile of the size of `like`."""
    height, width = like.shape[:2]
    side = min(height, width)
    drawn = action_panel((steering, 0, 0, 1), side)[:, :side]
    tile = np.empty_like(like)
    tile[:] = drawn[0, 0]
    y, x = (height - side) // 2, (width - side) // 2
    tile[y : y + side, x : x + side] = drawn
    return tile


def scale(colours: int, low: str, high: str, meaning: str, width: int = 180) -> Image:
    """A legend: the map from `low` to `high`, and what it means."""
    ramp = coloured(np.tile(np.linspace(0, 1, width), (LETTERS, 1)), 0, 1, colours)
    return _legend(ramp, low, high, meaning)


def compass(meaning: str, height: int = 72) -> Image:
    """The legend of `directions`: a disc, at rest in the middle."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : height * 1j]
    disc = directions(np.stack([x, y]), 1.0)
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


def stacked(images: Sequence[Image]) -> Image:
    """One below the other on white, flush left."""
    width = max(image.shape[1] for image in images)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in images])


def beside(images: Sequence[Image]) -> Image:
    """Next to each other on white, at the top."""
    height = max(image.shape[0] for image in images)
    return np.concatenate(
        [np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in images], axis=1
    )


def round_up(value: float) -> float:
    """The next round number, to end a scale at."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9)))
