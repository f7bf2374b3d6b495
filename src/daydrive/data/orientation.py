"""Orientation of recorded images: EXIF tags of JPEG and PNG files, display matrices of videos."""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

import numpy as np

from daydrive.types import Image

TAG = 0x0112
"""The EXIF tag of the orientation."""

EXIF_BYTES = 1 << 16
"""Maximum size of the EXIF data in a JPEG."""


class Orientation(NamedTuple):
    """How a recorded image becomes upright: mirrored left to right, then turned by quarters counterclockwise."""

    mirrored: bool
    turns: int

    @property
    def sideways(self) -> bool:
        """Whether height and width are exchanged."""
        return self.turns % 2 == 1

    def upright(self, image: Image) -> Image:
        """The upright image of a recorded one, (H, W, 3)."""
        if self == UPRIGHT:
            return image
        return np.ascontiguousarray(np.rot90(image[:, ::-1] if self.mirrored else image, self.turns))


UPRIGHT = Orientation(False, 0)

_OF_EXIF = {
    2: Orientation(True, 0),
    3: Orientation(False, 2),
    4: Orientation(True, 2),
    5: Orientation(True, 1),
    6: Orientation(False, 3),
    7: Orientation(True, 3),
    8: Orientation(False, 1),
}


def of_exif(data: bytes) -> Orientation:
    """The orientation that the EXIF tag of a JPEG or PNG file states; upright without one, or if it is damaged."""
    mark = b"Exif\0\0" if data[:2] == b"\xff\xd8" else b"eXIf"
    start = data.find(mark, 0, EXIF_BYTES if data[:2] == b"\xff\xd8" else len(data))
    if start < 0:
        return UPRIGHT
    from PIL import Image as Pillow

    exif = Pillow.Exif()
    try:
        exif.load(b"Exif\0\0" + data[start + len(mark) : start + EXIF_BYTES])
        return _OF_EXIF.get(exif.get(TAG, 1), UPRIGHT)
    except (OSError, SyntaxError, TypeError, ValueError, struct.error):
        return UPRIGHT


def of_display_matrix(matrix: bytes) -> Orientation:
    """The orientation that a display matrix states: nine int32 (a, b, u, c, d, v, x, y, w), from recorded to shown
    coordinates by x' = a x + c y, y' = b x + d y."""
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix[:36])
    mirrored = a * d - b * c < 0
    right = (-a, -b) if mirrored else (a, b)
    return Orientation(mirrored, round(math.atan2(-right[1], right[0]) / (math.pi / 2.0)) % 4)
