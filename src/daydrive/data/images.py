"""Pictures as bytes: reading what a source recorded, and the JPEGs of the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from daydrive.errors import UserError
from daydrive.types import Image

JPEG_QUALITY = 95

Fit = Literal["stretch", "crop", "letterbox"]


class Geometry(NamedTuple):
    """The rectangle (top, left, height, width) of a recorded picture that is `shown`, in its pixels, and where it is
    `placed` in the stored one, in those of that."""

    shown: tuple[int, int, int, int]
    placed: tuple[int, int, int, int]

    @property
    def pixel_aspect(self) -> float:
        """Width / height of a stored pixel as the camera saw it."""
        (_, _, height, width), (_, _, rows, columns) = self
        return width / height * rows / columns


def geometry(recorded: tuple[int, int], size: tuple[int, int], fit: Fit) -> Geometry:
    """How a picture of `recorded` (H, W) becomes one of `size` (H, W).

    stretch: all of it, out of proportion where theirs differ. crop: the largest part around the middle that has the
    proportions of `size`. letterbox: all of it in proportion, black bars around.
    """
    (height, width), (rows, columns) = recorded, size
    whole, full = (0, 0, height, width), (0, 0, rows, columns)
    if fit == "crop":
        return Geometry(_middle(recorded, (_scaled(width, rows, columns), _scaled(height, columns, rows))), full)
    if fit == "letterbox":
        return Geometry(whole, _middle(size, (_scaled(columns, height, width), _scaled(rows, width, height))))
    return Geometry(whole, full)


def _scaled(length: int, numerator: int, denominator: int) -> int:
    return max(1, round(length * numerator / denominator))


def _middle(outer: tuple[int, int], inner: tuple[int, int]) -> tuple[int, int, int, int]:
    """The rectangle of at most `inner` (H, W) in the middle of `outer`."""
    height, width = min(outer[0], inner[0]), min(outer[1], inner[1])
    return (outer[0] - height) // 2, (outer[1] - width) // 2, height, width


def fitted(image: Image, size: tuple[int, int], fit: Fit) -> Image:
    """uint8 (H, W, 3) → `size` (H, W), as `geometry` says."""
    if image.shape[:2] == size:
        return image
    (top, left, height, width), (y, x, rows, columns) = geometry(image.shape[:2], size, fit)
    part = resize(image[top : top + height, left : left + width], (rows, columns))
    if (rows, columns) == size:
        return part
    canvas = np.zeros((*size, 3), dtype=np.uint8)
    canvas[y : y + rows, x : x + columns] = part
    return canvas


def encode(image: Image) -> bytes:
    """uint8 (H, W, 3) RGB → JPEG without chroma subsampling, which small pictures cannot afford."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, "RGB", "444")


def resize(image: Image, size: tuple[int, int]) -> Image:
    """uint8 (H, W, 3) → `size` (H, W); areas are averaged when shrinking, so that fine lines do not flicker."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def read_image(path: Path, where: str, size: tuple[int, int]) -> Image | bytes:
    """The RGB picture in a JPEG or PNG file, uint8 (H, W, 3), or the file's own bytes where it is a sound JPEG of
    `size` (H, W) already. `where` names the row that asks for it, for the error."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: the picture {path} cannot be read ({error.strerror or error})") from error
    if not data:
        raise UserError(f"{where}: the picture {path} is empty (0 bytes)")
    if data[:2] == b"\xff\xd8":
        try:
            image = simplejpeg.decode_jpeg(data, "RGB")
        except ValueError as error:
            raise UserError(f"{where}: the picture {path} is a damaged JPEG ({_reason(error)})") from error
        return data if image.shape[:2] == size else image
    if data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in data[-12:]:
        raise UserError(f"{where}: the picture {path} is a truncated PNG")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # more pixels than OpenCV takes
        decoded = None
    if decoded is None:
        raise UserError(f"{where}: {path} is not a picture that can be read")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def decode_all(jpegs: Sequence[bytes], out: npt.NDArray[np.uint8]) -> None:
    """Decodes JPEGs of one size into `out`, uint8 (N, H, W, 3); a ValueError carries the index of a bad one first."""
    for index, data in enumerate(jpegs):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            if (height, width) != out.shape[1:3]:
                raise ValueError(f"it is {height}x{width} where the store says {out.shape[1]}x{out.shape[2]}")
            simplejpeg.decode_jpeg(data, "RGB", buffer=out[index])
        except ValueError as error:
            raise ValueError(index, _reason(error)) from error


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".").replace("\n", " ") or type(error).__name__
