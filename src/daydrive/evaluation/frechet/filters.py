"""Features that need no weights: colours and edges over a coarse grid of places.

Mean sizes of differences at several octaves, a plain form of the gist of a scene (Oliva and Torralba, 2001).
Every number here is part of the definition: whoever changes one raises `VERSION`, so that figures stay comparable.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

VERSION = 1
GRID = 3
OCTAVES = 3
COLOUR, EDGE = 16.0, 4.0
"""Levels of 255 that are one unit of a feature; edges are a few levels where colours are dozens."""

DIMENSIONS = GRID * GRID * (3 + OCTAVES * 4)
STEP = 2.0**-10
"""what features are rounded to, see `Moments`"""

_LUMA = (0.299, 0.587, 0.114)


def image_features(frames: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) of any size → float32 (N, `DIMENSIONS`).

    Of each of 3x3 places: mean brightness (BT.601), mean red and blue less it, over `COLOUR`; and the mean size of the
    differences between neighbouring pixels of the brightness, to the right, down and along both diagonals (these over
    √2), over `EDGE`, at three octaves: the image, and halved once and twice by means over 2x2 pixels.
    """
    colours = _colours(frames.float())
    return torch.cat((*(_pooled(x / COLOUR) for x in colours), *_edges(colours[0])), dim=1)


def change_features(before: Tensor, frames: Tensor) -> Tensor:
    """The same of what changed from each frame to the next, the size of colours instead of the colours themselves.

    before: (3, H, W), the frame that precedes `frames` (N, 3, H, W).
    """
    colours = _colours(torch.cat((before[None], frames)).float().diff(dim=0))
    return torch.cat((*(_pooled(x.abs() / COLOUR) for x in colours), *_edges(colours[0])), dim=1)


def _colours(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    red, green, blue = images.unbind(1)
    brightness = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return brightness, red - brightness, blue - brightness


def _edges(layer: Tensor) -> list[Tensor]:
    parts: list[Tensor] = []
    for octave in range(OCTAVES):
        if octave:
            layer = F.adaptive_avg_pool2d(layer, (max(1, layer.shape[-2] // 2), max(1, layer.shape[-1] // 2)))
        here, right, down, across = _neighbours(layer)
        differences = (right - here, down - here, (across - here) / math.sqrt(2), (right - down) / math.sqrt(2))
        parts += [_pooled(x.abs() / EDGE) for x in differences]
    return parts


def _neighbours(layer: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each pixel, the one to its right, below it, and below that; the border repeats itself."""
    wide = F.pad(layer, (0, 1, 0, 1), mode="replicate")
    return layer, wide[:, :-1, 1:], wide[:, 1:, :-1], wide[:, 1:, 1:]


def _pooled(maps: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(maps, GRID).flatten(1)
