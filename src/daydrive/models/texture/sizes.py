"""Spatial sizes of the encoder and decoder stages, computed from the settings."""

from __future__ import annotations

import math
from typing import NamedTuple

from daydrive.errors import UserError
from daydrive.models.texture.config import TextureConfig


class StageSizes(NamedTuple):
    """reductions: downsampling factor of each encoder stage. enlargements: upsampling factors between decoder stages.

    head: upsampling factor from the last decoder stage to the image. skips: for each decoder stage the encoder stage of
    the same size whose features it uses, or None. grid: height and width of the latents.
    """

    reductions: list[int]
    enlargements: list[int]
    head: int
    skips: list[int | None]
    grid: tuple[int, int]


def stage_sizes(config: TextureConfig, image_size: tuple[int, int]) -> StageSizes:
    """The sizes for a model; raises UserError if halving the image does not lead to `decoder.init_size`."""
    halvings = count_halvings(config, image_size)
    reductions = _spread(halvings, len(config.encoder.stages))
    growing = _spread(halvings, len(config.decoder.stages))
    enlargements = growing[:0:-1]
    shrunk = [math.prod(reductions[: i + 1]) for i in range(len(reductions))]
    grown = [2**halvings // math.prod(enlargements[:i]) for i in range(len(enlargements) + 1)]
    skips: list[int | None] = []
    for scale in grown:
        same = [i for i, s in enumerate(shrunk) if s == scale and i not in skips]
        skips.append(same[-1] if same else None)
    return StageSizes(
        reductions, enlargements, growing[0], skips, (image_size[0] >> halvings, image_size[1] >> halvings)
    )


def count_halvings(config: TextureConfig, image_size: tuple[int, int]) -> int:
    """Number of halvings from the image size to the latent grid."""
    height, width = image_size
    init = config.decoder.init_size
    halvings = round(math.log2(min(image_size) / init)) if min(image_size) > init else 0
    if halvings < 1 or min(image_size) != init * 2**halvings or max(image_size) % 2**halvings:
        good = sorted(s for s in (min(image_size) // 2**n for n in range(1, 6)) if s >= 4)
        fitting = [s for s in good if min(image_size) % s == 0 and max(image_size) % (min(image_size) // s) == 0]
        raise UserError(
            f"model.decoder.init_size = {init} does not fit images of {height}x{width}: the shorter side has to be "
            f"init_size times a power of two, and the longer one a multiple of that power; "
            f"{'fitting: ' + ', '.join(map(str, fitting)) if fitting else 'prepare the store in another --image-size'}"
        )
    return halvings


def _spread(halvings: int, stages: int) -> list[int]:
    """Factors, finest stage first: one halving per stage; additional halvings go to the first stage."""
    first = max(1, halvings - (stages - 1))
    left = halvings - first
    return [2**first] + [2 if i < left else 1 for i in range(stages - 1)]
