"""The readout: a small network that reads values such as the lane offset and the speed from two consecutive frames.

A file contains its weights as safetensors and, as JSON in the header, what they were trained on and their errors.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from daydrive.envs.world_model import ground_motion
from daydrive.errors import UserError
from daydrive.tensors import read_described, write_described
from daydrive.types import to_signed

FRAMES = 2
SPEED = "speed"
SIDE = 64
"""Images are reduced to this length of their shorter side (pixels), if they are larger."""

CHANNELS, HIDDEN, GRID = (24, 48, 64, 96), 128, 4
METADATA = "daydrive_readout"


class ReadoutError(BaseModel):
    """Errors of a value on held-out frames, in its unit.

    mean_absolute: of the readout; constant: of the training frames' median, without looking at the image;
    explained: share of the variance that the readout explains, at most 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    mean_absolute: float
    constant: float
    explained: float


class ReadoutInfo(BaseModel):
    """What a readout reads and how it was trained.

    units: of the values, by name; hz: frames per second; image_size: height and width; horizon: its row, in image
    heights from the top; errors: by value, on `frames` frames of the split `split`; store: fingerprint of the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    units: dict[str, str] = Field(min_length=1)
    hz: float = Field(gt=0)
    image_size: tuple[int, int]
    horizon: float = Field(ge=0, le=1)
    errors: dict[str, ReadoutError]
    frames: int
    split: str
    store: str
    daydrive: str


class ReadoutNetwork(nn.Module):
    """Reads values from two frames: the speed from the motion of the ground between them, all else from the second."""

    offset: Tensor
    scale: Tensor

    def __init__(self, names: Sequence[str], horizon: float) -> None:
        super().__init__()
        self.horizon = horizon
        views = [name for name in names if name != SPEED]
        self._order = [views.index(name) if name != SPEED else len(views) for name in names]
        if views:
            self.view = nn.Sequential(
                *(_stage(a, b, 5 if a == 3 else 3) for a, b in pairwise((3, *CHANNELS))),
                nn.AdaptiveAvgPool2d(GRID),
                nn.Flatten(),
                nn.Linear(CHANNELS[-1] * GRID * GRID, HIDDEN),
                nn.SiLU(),
                nn.Linear(HIDDEN, len(views)),
            )
        if SPEED in names:
            self.motion = nn.Sequential(
                nn.BatchNorm1d(ground_motion.FEATURES),
                nn.Linear(ground_motion.FEATURES, HIDDEN // 2),
                nn.SiLU(),
                nn.Dropout(0.3),
                nn.Linear(HIDDEN // 2, HIDDEN // 4),
                nn.SiLU(),
                nn.Linear(HIDDEN // 4, 1),
            )
        self.register_buffer("offset", torch.zeros(len(names)))
        self.register_buffer("scale", torch.ones(len(names)))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, FRAMES, 3, h, w) in [-1, 1], reduced as by `reduce_images` → values in their units (B, V)."""
        values = [self.view(frames[:, -1])] if hasattr(self, "view") else []
        if hasattr(self, "motion"):
            values.append(self.motion(self.correlations(frames)))
        return self.offset + self.scale * torch.cat(values, dim=1)[:, self._order]

    def correlations(self, frames: Tensor) -> Tensor:
        """The input of `motion`, (B, `ground_motion.FEATURES`), for frames as for `forward`."""
        return ground_motion.correlations(frames, self.horizon)


def _stage(inputs: int, outputs: int, kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.GroupNorm(8, outputs), nn.SiLU())


class Readout:
    """A trained readout on a device."""

    def __init__(self, network: ReadoutNetwork, info: ReadoutInfo) -> None:
        self.network, self.info = network.eval().requires_grad_(False), info

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.info.units)

    def __call__(self, frames: Tensor) -> dict[str, Tensor]:
        """uint8 (B, FRAMES, 3, H, W), on the readout's device → the values of the last frame by name, (B,) each."""
        reduced = reduce_images(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return dict(zip(self.names, self.network(to_signed(reduced)).unbind(1), strict=True))

    def read_view(self, images: Tensor) -> dict[str, Tensor]:
        """Everything but the speed, differentiable, from single frames (B, 3, H, W) in [-1, 1]."""
        views = [k for k, name in enumerate(self.names) if name != SPEED]
        values = self.network.offset[views] + self.network.scale[views] * self.network.view(shrink(images))
        return dict(zip([self.names[k] for k in views], values.unbind(1), strict=True))

    def check(self, hz: float, image_size: tuple[int, int]) -> None:
        """Raises UserError if it reads images of another size or rate."""
        if self.info.hz != hz or self.info.image_size != image_size:
            height, width = self.info.image_size
            raise UserError(
                f"the readout was trained on images of {height}x{width} at {self.info.hz:g} Hz, and this environment "
                f"has {image_size[0]}x{image_size[1]} at {hz:g} Hz; train one on the same store"
            )

    def to(self, device: torch.device | str) -> Readout:
        """A copy on another device."""
        return Readout(copy.deepcopy(self.network).to(device), self.info)

    def save(self, file: Path) -> None:
        """Write the file atomically."""
        write_described(self.network.state_dict(), file, METADATA, self.info.model_dump_json())

    @classmethod
    def load(cls, file: str | Path, device: torch.device | str = "cpu") -> Readout:
        """Raises UserError if the file is missing or no readout."""
        if not Path(file).is_file():
            raise UserError(f"there is no readout {file}; train one with `daydrive train-readout`")
        header, weights = read_described(Path(file), METADATA, "readout")
        if header is None:
            raise UserError(f"{file} is not a readout; train one with `daydrive train-readout`")
        try:
            info = ReadoutInfo.model_validate(json.loads(header))
            network = ReadoutNetwork(tuple(info.units), info.horizon)
            network.load_state_dict(weights)
        except (ValueError, ValidationError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{file} is not a complete readout ({reason}); train it again") from None
        if not all(value.isfinite().all() for value in network.state_dict().values()):
            raise UserError(f"{file} has weights that are not finite; train it again")
        return cls(network.to(device), info)


def reduce_images(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) → uint8, with a shorter side of at most `SIDE` pixels, by averaging."""
    if min(images.shape[-2:]) <= SIDE:
        return images
    return shrink(images.float()).round_().to(torch.uint8)


def shrink(images: Tensor) -> Tensor:
    """As `reduce_images`, differentiable, for images of floating-point numbers."""
    height, width = images.shape[-2:]
    factor = SIDE / min(height, width)
    if factor >= 1:
        return images
    return F.interpolate(images, (round(factor * height), round(factor * width)), mode="area")
