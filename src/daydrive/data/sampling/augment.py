"""Augmentation of clips: colour jitter, crops and mirroring, keeping images and steering consistent."""

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
"""Weights of red, green and blue in luma (ITU-R BT.601)."""

CHUNK_VALUES = 2**20
"""Number of colour values converted to float at a time: 4 MiB, which fits into processor caches."""

_STREAM = 0xA06
"""Separates this random stream from others with the same seed."""


class AugmentationParams(NamedTuple):
    """The augmentation of one clip, the same for all of its frames.

    brightness, contrast, saturation: factors. side: height and width of the crop as fractions of the image's. height:
    vertical position of the crop, from -1 (top) to 1 (bottom).
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
        crop = [f"window {self.side:.2f}"] if self.side != 1 else []
        return ", ".join([*changes, *crop, *(["mirrored"] if self.mirrored else [])]) or "unchanged"


class DrivingAugmentation:
    """Augments the clips of a batch on its device, with the same parameters for all frames of a clip.

    brightness, contrast, saturation: maximum relative change in either direction, in [0, 1). Brightness scales all
    values; contrast scales around the mean luma of the clip; saturation scales around the luma of each pixel.
    crop_scale: minimum and maximum area of the crop as a fraction of the image, in (0, 1]. The crop has the aspect
    ratio of the image and is enlarged to its size, like a longer focal length: all motion is scaled by one factor. It
    is centred horizontally, so that straight driving still heads for the centre of the image; its height is random.
    mirror: probability, in [0, 1], of a horizontal flip, which negates the steering. It also mirrors text and the side
    of the road on which traffic drives.

    The parameters of a clip depend only on `seed` and its number in `Batch.samples`, not on batch, rank, worker or
    resuming. Raises UserError for a setting out of range.
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
                raise UserError(f"the augmentation's {name} is {change}; it must be at least 0 and below 1")
        low, high = crop_scale
        if not 0 < low <= high <= 1:
            raise UserError(f"the augmentation's crop_scale is ({low}, {high}); it must satisfy 0 < min <= max <= 1")
        if not 0 <= mirror <= 1:
            raise UserError(f"the augmentation's mirror is {mirror}; a probability is from 0 to 1")
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.crop_scale, self.mirror, self.seed = (low, high), mirror, seed
        self._recolours = any(changes.values())
        self._crops = low < 1

    @classmethod
    def from_config(cls, config: AugmentationConfig | None, seed: int) -> DrivingAugmentation:
        """Build the augmentation from `data.augmentation`; None for no changes."""
        config = config or AugmentationConfig()
        return cls(config.brightness, config.contrast, config.saturation, config.crop_scale, config.mirror, seed)

    def sample_params(self, sample: int) -> AugmentationParams:
        """Sample the parameters of the clip with this sample number."""
        uniform = np.random.default_rng([self.seed, sample, _STREAM]).random(6)
        change = 2 * uniform[:3] - 1
        low, high = self.crop_scale
        return AugmentationParams(
            brightness=1 + self.brightness * change[0],
            contrast=1 + self.contrast * change[1],
            saturation=1 + self.saturation * change[2],
            side=float(np.sqrt(low + (high - low) * uniform[3])),
            height=2 * uniform[4] - 1,
            mirrored=bool(uniform[5] < self.mirror),
        )

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with augmented images (uint8) and actions; the batch itself if nothing is configured.

        Raises UserError for a batch whose clips have no sample numbers.
        """
        if not (self._recolours or self._crops or self.mirror):
            return batch
        if len(batch.samples) != len(batch.images):
            raise UserError(
                f"augmentation needs the sample numbers in Batch.samples, and this batch has {len(batch.samples)} "
                f"of them for {len(batch.images)} clips"
            )
        clip_params = [self.sample_params(sample) for sample in batch.samples]
        images, actions = batch.images.clone(), batch.actions.clone()
        for i in (i for i, params in enumerate(clip_params) if params.mirrored):
            images[i] = images[i].flip(-1)
            actions[i, :, 0] *= -1
        if self._recolours or self._crops:
            table = torch.tensor(clip_params, dtype=torch.float32).to(images.device, non_blocking=True)
            clips = max(1, CHUNK_VALUES // images[0].numel())
            for chunk, chunk_params in zip(images.split(clips), table.split(clips), strict=True):
                chunk.copy_(self._transform(chunk.float(), chunk_params).round_().clamp_(0, 255))
        return dataclasses.replace(batch, images=images, actions=actions)

    def _transform(self, images: Tensor, params: Tensor) -> Tensor:
        pixels = images.float()
        if self._recolours:
            pixels = adjust_colours(pixels, params[:, 0], params[:, 1], params[:, 2], grey=self.saturation > 0)
        if self._crops:
            pixels = crop_and_enlarge(pixels, params[:, 3], params[:, 4])
        return pixels.round_().clamp_(0, 255).to(torch.uint8)


def adjust_colours(
    pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, grey: bool = True
) -> Tensor:
    """Adjust float32 (B, T, 3, H, W) with integer values in [0, 255] by factors (B,); the result is not clamped.

    grey: whether any `saturation` differs from 1. The three changes are one affine colour map, `gain x + share grey(x)
    + offset`. The sums over integers are exact, so the result does not depend on threads or the rest of the batch.
    """
    weights = torch.tensor(LUMA, device=pixels.device)
    sums = pixels.sum(-1).sum((1, 3), dtype=torch.float64)
    mean = ((sums * weights).sum(-1) / (pixels[0].numel() // 3)).float()
    gain = brightness * contrast
    offset = brightness * (1 - contrast) * mean
    per_clip = (-1, 1, 1, 1, 1)
    changed = pixels * (gain * saturation).view(per_clip)
    if grey:
        red, green, blue = (pixels[:, :, i : i + 1] * LUMA[i] for i in range(3))
        changed += (red + green + blue) * (gain * (1 - saturation)).view(per_clip)
    return changed.add_(offset.view(per_clip))


def crop_and_enlarge(pixels: Tensor, side: Tensor, height: Tensor) -> Tensor:
    """Crop float32 (B, T, C, H, W) and enlarge to the same shape with bilinear interpolation.

    side (B,): of the crop as a fraction of the image's. height (B,): vertical position from -1 (top) to 1 (bottom). The
    crop is centred horizontally.
    """
    b, t, c, h, w = pixels.shape
    across, down = ((torch.arange(n, device=pixels.device) * 2 + 1) / n - 1 for n in (w, h))
    x = side[:, None] * across
    y = side[:, None] * down + ((1 - side) * height)[:, None]
    grid = torch.stack([x[:, None, :].expand(b, h, w), y[:, :, None].expand(b, h, w)], dim=-1)
    frames = pixels.reshape(b, t * c, h, w)
    crops = functional.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return crops.reshape(b, t, c, h, w)
