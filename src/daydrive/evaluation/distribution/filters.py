"""Features that need no weights: colours and edges over a coarse grid of cells.

Mean magnitudes of differences at several octaves, a simple form of the gist of a scene (Oliva and Torralba, 2001).
Every constant here is part of the definition: a change requires a new `VERSION`, so that results stay comparable.
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
"""Levels, 0 to 255, per unit of a feature; edges are a few levels, colours dozens of levels."""

DIMENSIONS = GRID * GRID * (3 + OCTAVES * 4)
STEP = 2.0**-10
"""Features are rounded to multiples of it, see `Moments`."""

_LUMA = (0.299, 0.587, 0.114)


def image_features(frames: Tensor) -> Tensor:
    """Frames uint8 (N, 3, H, W) of any size → float32 (N, `DIMENSIONS`).

    For each of 3x3 cells: mean brightness (BT.601) and mean red and blue minus brightness, divided by `COLOUR`; and the
    mean absolute difference of brightness between neighbouring pixels to the right, down and along both diagonals
    (divided by √2), divided by `EDGE`, at three octaves: the image, and downsampled once and twice by 2x2 means.
    """
    colours = _colours(frames.float())
    return torch.cat((*(_pooled(x / COLOUR) for x in colours), *_edges(colours[0])), dim=1)


def change_features(before: Tensor, frames: Tensor) -> Tensor:
    """The same features of the change from each frame to the next, with absolute values of the colours.

    before: uint8 (3, H, W), the frame preceding `frames` (N, 3, H, W).
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
        pixel, right, down, diagonal = _neighbours(layer)
        differences = (right - pixel, down - pixel, (diagonal - pixel) / math.sqrt(2), (right - down) / math.sqrt(2))
        parts += [_pooled(x.abs() / EDGE) for x in differences]
    return parts


def _neighbours(layer: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Each pixel and its neighbours to the right, below, and below right; the border is replicated."""
    wide = F.pad(layer, (0, 1, 0, 1), mode="replicate")
    return layer, wide[:, :-1, 1:], wide[:, 1:, :-1], wide[:, 1:, 1:]


def _pooled(maps: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(maps, GRID).flatten(1)
