"""The camera behind the windscreen: a pinhole camera facing along the car's heading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from daydrive.errors import UserError

FIELD_OF_VIEW = math.radians(75)
HEIGHT = 1.35
FORWARD = 1.2
"""Distance (m) of the camera ahead of the rear axle."""
NEAR, FAR = 0.4, 320.0
MIN_SIDE, MAX_SIDE = 64, 256


@dataclass(frozen=True)
class Lens:
    """Image size (px) and projection: column = cx + focal * right / depth, row = cy + focal * down / depth."""

    height: int
    width: int

    @cached_property
    def focal(self) -> float:
        return self.width / 2 / self.half_width

    @cached_property
    def half_width(self) -> float:
        """Half the width of the field of view at a depth of 1."""
        return math.tan(FIELD_OF_VIEW / 2)

    @cached_property
    def cx(self) -> float:
        return (self.width - 1) / 2

    @cached_property
    def cy(self) -> float:
        return 0.44 * self.height - 0.5


@dataclass(frozen=True)
class Pose:
    """Camera position (m), yaw (rad, positive to the right) and upward slope of the optical axis (rise per metre)."""

    x: float
    y: float
    z: float
    yaw: float
    slope: float


def check_image_size(image_size: tuple[int, int]) -> Lens:
    """Return the lens for an image of (H, W). Raises UserError unless it is square or 2:1 (width to height), with sides
    of 64 to 256 px that are multiples of 16."""
    try:
        height, width = (int(v) for v in image_size)
    except (TypeError, ValueError):
        raise UserError(f"image_size must be (height, width), for example (64, 64), not {image_size!r}") from None
    fits = all(MIN_SIDE <= v <= MAX_SIDE and v % 16 == 0 for v in (height, width))
    if not fits or width not in (height, 2 * height):
        raise UserError(
            f"image_size ({height}, {width}) must be square or twice as wide as high, each side a multiple of 16"
            f" from {MIN_SIDE} to {MAX_SIDE}, for example (64, 64) or (128, 256)"
        )
    return Lens(height, width)
