"""Which LPIPS an evaluation reports, or why it reports none."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from daydrive.errors import UserError, did_you_mean
from daydrive.perceptual import BACKBONES, MIN_SIDE, Distance, build_perceptual, cached_weights

DEFAULT = "alexnet"


def find_lpips(
    network: str | None, weights: Path | None, image_size: tuple[int, int] = (MIN_SIDE, MIN_SIDE)
) -> tuple[Distance | None, str]:
    """The distance and the network's name, or None and the reason.

    network: 'alexnet' or 'vgg16'; None: alexnet. weights: a file of `daydrive fetch-weights`; None: torch's cache. What
    is asked for has to be there and to fit the images (height, width), else UserError; what is not asked for may be
    absent.
    """
    name = network or DEFAULT
    if name not in BACKBONES:
        raise UserError(f"--lpips {name}: there is no such network{did_you_mean(name, BACKBONES)}")
    if min(image_size) < MIN_SIDE:
        small = f"the images are {image_size[0]}x{image_size[1]} and it needs {MIN_SIDE}x{MIN_SIDE}"
        if network is not None or weights is not None:
            raise UserError(f"--lpips {name}: {small}")
        return None, f"not measured, {small}"
    file = weights or cached_weights(name)
    if not file.is_file():
        fetch = f"run 'daydrive fetch-weights {name}' once, which downloads them"
        if network is not None or weights is not None:
            raise UserError(f"--lpips {name} needs weights, and there is no {file}; {fetch}")
        return None, f"not measured, its weights are not there: {fetch}"
    distance = build_perceptual(name, file, torch.device("cpu"))

    @torch.no_grad()
    def quiet(a: Tensor, b: Tensor) -> Tensor:
        return distance(a, b)

    return quiet, name
