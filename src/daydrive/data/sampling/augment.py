"""Augmentation: other light, another window, left and right exchanged, with pictures and steering in agreement."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from daydrive.config import AugmentationConfig
from daydrive.errors import UserError
from daydrive.types import Batch

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue count in grey (ITU-R BT.601)."""

VALUES_AT_ONCE = 2**20
"""Colour values that are held as floats at a time: 4 MiB, which a processor's cache still helps with."""

_STREAM = 0xA06
"""Keeps these draws apart from others of the same seed."""


class Draw(NamedTuple):
    """What one clip is given, the same in all of its frames.

    brightness, contrast, saturation: factors. side: height and width of the window as a share of the picture's.
    height: where the window lies, from -1 (at the top) to 1 (at the bottom).
    """

    brightness: float
    contrast: float
    saturation: float
    side: float
    height: float
    mirrored: bool

    def __str__(self) -> str:
        factors = zip(self._fields, self[:3], strict=False)
        changes = [f"{name} {factor:.2f}" for name, factor in factors if factor != 1]
        window = [f"window {self.side:.2f}"] if self.side != 1 else []
        return ", ".join([*changes, *window, *(["mirrored"] if self.mirrored else [])]) or "unchanged"


class DrivingAugmentation:
    """Changes the clips of a batch, on the device that it is on; all frames of a clip alike.

    brightness, contrast, saturation: the largest relative change either way, in [0, 1). Brightness multiplies; contrast
    stretches about the mean grey of the clip; saturation stretches about the grey of each pixel.
    crop_scale: share of the picture's area that the window keeps, from and to, in (0, 1]. The window has the picture's
    proportions and is enlarged to its size, as a longer lens would show it: all motion is scaled by one factor. It lies
    in the middle from side to side, so that a car that drives straight on still heads for the middle of the picture;
    its height is free.
    mirror: the chance, in [0, 1], that left and right are exchanged, the sign of the steering with them. Writing and
    the side of the road that traffic keeps to are exchanged too.

    What a clip is given follows from `seed` and its number in `Batch.samples` alone: batch, rank, worker and resume
    don't matter. UserError for a setting out of range.
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        crop_scale: tuple[float, float] = (1.0, 1.0),
        mirror: float = 0.0,
        seed: int = 0,
    ) -> None:
        changes = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, change in changes.items():
            if not 0 <= change < 1:
                raise UserError(f"the augmentation's {name} is {change}; it has to be at least 0 and below 1")
        low, high = crop_scale
        if not 0 < low <= high <= 1:
            raise UserError(f"the augmentation's crop_scale is ({low}, {high}); it has to be 0 < from <= to <= 1")
        if not 0 <= mirror <= 1:
            raise UserError(f"the augmentation's mirror is {mirror}; a chance is from 0 to 1")
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.crop_scale, self.mirror, self.seed = (low, high), mirror, seed
        self._recolours = any(changes.values())
        self._crops = low < 1

    @classmethod
    def from_config(cls, config: AugmentationConfig | None, seed: int) -> DrivingAugmentation:
        """As `data.augmentation` says; None changes nothing."""
        config = config or AugmentationConfig()
        return cls(config.brightness, config.contrast, config.saturation, config.crop_scale, config.mirror, seed)

    def draw(self, sample: int) -> Draw:
        """What the clip with this number is given."""
        chance = np.random.default_rng([self.seed, sample, _STREAM]).random(6)
        change = 2 * chance[:3] - 1
        low, high = self.crop_scale
        return Draw(
            brightness=1 + self.brightness * change[0],
            contrast=1 + self.contrast * change[1],
            saturation=1 + self.saturation * change[2],
            side=float(np.sqrt(low + (high - low) * chance[3])),
            height=2 * chance[4] - 1,
            mirrored=bool(chance[5] < self.mirror),
        )

    def __call__(self, batch: Batch) -> Batch:
        """The batch with changed images (uint8) and actions; itself where nothing is to change.

        UserError for a batch whose clips have no sample numbers.
        """
        if not (self._recolours or self._crops or self.mirror):
            return batch
        if len(batch.samples) != len(batch.images):
            raise UserError(
                f"an augmentation is drawn by the numbers in Batch.samples, and this batch has {len(batch.samples)} of "
                f"them for {len(batch.images)} clips"
            )
        draws = [self.draw(sample) for sample in batch.samples]
        images, actions = batch.images.clone(), batch.actions.clone()
        for i in (i for i, draw in enumerate(draws) if draw.mirrored):
            images[i] = images[i].flip(-1)
            actions[i, :, 0] *= -1
        if self._recolours or self._crops:
            table = torch.tensor(draws, dtype=torch.float32).to(images.device, non_blocking=True)
            clips = max(1, VALUES_AT_ONCE // images[0].numel())
            for part, drawn in zip(images.split(clips), table.split(clips), strict=True):
                part.copy_(self._repaint(part.float(), drawn).round_().clamp_(0, 255))
        return dataclasses.replace(batch, images=images, actions=actions)

    def _repaint(self, images: Tensor, draws: Tensor) -> Tensor:
        pixels = images.float()
        if self._recolours:
            pixels = recolour(pixels, draws[:, 0], draws[:, 1], draws[:, 2], grey=self.saturation > 0)
        if self._crops:
            pixels = enlarge_window(pixels, draws[:, 3], draws[:, 4])
        return pixels.round_().clamp_(0, 255).to(torch.uint8)


def recolour(pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, grey: bool = True) -> Tensor:
    """float32 (B, T, 3, H, W) in [0, 255], whole numbers → the same shape, unclamped; the factors are (B,).

    grey: whether `saturation` is other than 1. The three changes are one map of colours, `gain x + share grey(x) +
    offset`. The sums are of whole numbers and exact, so that neither threads nor the rest of the batch change a bit.
    """
    weights = torch.tensor(LUMA, device=pixels.device)
    sums = pixels.sum(-1).sum((1, 3), dtype=torch.float64)
    mean = ((sums * weights).sum(-1) / (pixels[0].numel() // 3)).float()
    gain = brightness * contrast
    offset = brightness * (1 - contrast) * mean
    wide = (-1, 1, 1, 1, 1)
    changed = pixels * (gain * saturation).view(wide)
    if grey:
        red, green, blue = (pixels[:, :, i : i + 1] * LUMA[i] for i in range(3))
        changed += (red + green + blue) * (gain * (1 - saturation)).view(wide)
    return changed.add_(offset.view(wide))


def enlarge_window(pixels: Tensor, side: Tensor, height: Tensor) -> Tensor:
    """float32 (B, T, C, H, W) → a window of each clip, enlarged to the same shape, bilinear.

    side (B,): of the window, as a share of the picture's. height (B,): from -1, the window at the top, to 1. It lies in
    the middle from side to side.
    """
    b, t, c, h, w = pixels.shape
    across, down = ((torch.arange(n, device=pixels.device) * 2 + 1) / n - 1 for n in (w, h))
    x = side[:, None] * across
    y = side[:, None] * down + ((1 - side) * height)[:, None]
    grid = torch.stack([x[:, None, :].expand(b, h, w), y[:, :, None].expand(b, h, w)], dim=-1)
    frames = pixels.reshape(b, t * c, h, w)
    seen = functional.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen.reshape(b, t, c, h, w)
