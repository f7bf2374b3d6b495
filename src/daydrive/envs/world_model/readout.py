"""The readout: a small network that reads values such as the lane offset and the speed from two consecutive frames.

A file contains its weights as safetensors and, as JSON in the header, what they were trained on and their errors.
"""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from daydrive.errors import UserError
from daydrive.files import atomic_replace
from daydrive.types import to_signed

FRAMES = 2
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

    units: of the values, by name; hz: frames per second; image_size: height and width; errors: by value, on `frames`
    frames of the split `split`; store: fingerprint of the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    units: dict[str, str] = Field(min_length=1)
    hz: float = Field(gt=0)
    image_size: tuple[int, int]
    errors: dict[str, ReadoutError]
    frames: int
    split: str
    store: str
    daydrive: str


class ReadoutNetwork(nn.Module):
    """Strided convolutions over two frames, and two layers over a grid of their features."""

    offset: Tensor
    scale: Tensor

    def __init__(self, values: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 5 if a == 3 * FRAMES else 3, 2, 2 if a == 3 * FRAMES else 1), nn.GroupNorm(8, b)
            )
            for a, b in pairwise((3 * FRAMES, *CHANNELS))
        )
        self.hidden = nn.Linear(CHANNELS[-1] * GRID * GRID, HIDDEN)
        self.out = nn.Linear(HIDDEN, values)
        self.register_buffer("offset", torch.zeros(values))
        self.register_buffer("scale", torch.ones(values))

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (B, FRAMES, 3, h, w), as `reduce_images` returns them → values in their units (B, V)."""
        return self.offset + self.scale * self.standardized(frames)

    def standardized(self, frames: Tensor) -> Tensor:
        """As `forward`, with the values less `offset`, divided by `scale`."""
        x = to_signed(frames.flatten(1, 2))
        for stage in self.stages:
            x = F.silu(stage(x))
        x = F.adaptive_avg_pool2d(x, GRID)
        standardized: Tensor = self.out(F.silu(self.hidden(x.flatten(1))))
        return standardized


class Readout:
    """A trained readout on a device."""

    def __init__(self, network: ReadoutNetwork, info: ReadoutInfo) -> None:
        self.network, self.info = network.eval().requires_grad_(False), info

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.info.units)

    def __call__(self, frames: Tensor) -> dict[str, Tensor]:
        """uint8 (B, FRAMES, 3, H, W), on the readout's device → the values of the last frame by name, (B,) each."""
        values = self.network(reduce_images(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))
        return dict(zip(self.names, values.unbind(1), strict=True))

    def to(self, device: torch.device | str) -> Readout:
        """A copy on another device."""
        return Readout(copy.deepcopy(self.network).to(device), self.info)

    def save(self, file: Path) -> None:
        """Write the file atomically."""
        weights = {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_replace(file) as temporary:
            temporary.write_bytes(save(weights, {METADATA: self.info.model_dump_json()}))

    @classmethod
    def load(cls, file: str | Path, device: torch.device | str = "cpu") -> Readout:
        """Raises UserError if the file is missing or no readout."""
        if not Path(file).is_file():
            raise UserError(f"there is no readout {file}; train one with `daydrive train-readout`")
        try:
            with safe_open(file, framework="pt") as opened:
                header = (opened.metadata() or {}).get(METADATA)
                weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            if header is None:
                raise UserError(f"{file} is not a readout; train one with `daydrive train-readout`")
            info = ReadoutInfo.model_validate(json.loads(header))
            network = ReadoutNetwork(len(info.units))
            network.load_state_dict(weights)
        except (SafetensorError, OSError, ValueError, ValidationError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{file} is not a complete readout ({reason}); train it again") from None
        if not all(value.isfinite().all() for value in network.state_dict().values()):
            raise UserError(f"{file} has weights that are not finite; train it again")
        return cls(network.to(device), info)


def reduce_images(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) → uint8, with a shorter side of at most `SIDE` pixels, by averaging."""
    height, width = images.shape[-2:]
    factor = SIDE / min(height, width)
    if factor >= 1:
        return images
    size = (round(factor * height), round(factor * width))
    return F.interpolate(images.float(), size, mode="area").round_().to(torch.uint8)
