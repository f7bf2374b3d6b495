"""Selects the LPIPS network of an evaluation, or the reason why LPIPS is not measured."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from daydrive.errors import UserError, did_you_mean
from daydrive.losses import Distance
from daydrive.perceptual import BACKBONES, MIN_SIDE, build_perceptual, cached_weights

DEFAULT = "alexnet"


def find_lpips(
    network: str | None, weights: Path | None, image_size: tuple[int, int] = (MIN_SIDE, MIN_SIDE)
) -> tuple[Distance | None, str]:
    """Returns the distance and the network's name, or None and the reason why there is none.

    network: 'alexnet' or 'vgg16'; None for alexnet. weights: a file written by `daydrive fetch-weights`; None for
    torch's cache. image_size: (height, width). UserError if a network or file given explicitly is missing or does not
    support the image size; without an explicit choice LPIPS is optional.
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
        return None, f"not measured, its weights are missing: {fetch}"
    distance = build_perceptual(name, file, torch.device("cpu"))

    @torch.no_grad()
    def without_grad(a: Tensor, b: Tensor) -> Tensor:
        return distance(a, b)

    return without_grad, name
