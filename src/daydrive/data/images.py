"""Pictures as bytes: reading what a source recorded, and the JPEGs of the store."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from daydrive.errors import UserError
from daydrive.types import Image

JPEG_QUALITY = 95

LARGEST_PIXELS = 100_000_000
"""Height times width of a picture; a small file may claim to be of any size."""

SPARE = 3
"""A JPEG is decoded at a half, a quarter or so of its size where that leaves this many times what is wanted of each
side: on 1600x900 to 64x64 it is 2.4 times as fast, and 52 dB from the same made from the whole picture."""

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
    shown, (y, x, rows, columns) = geometry(recorded_size(image), size, fit)
    part = resize(_part(image, shown), (rows, columns))
    if (rows, columns) == size:
        return part
    canvas = np.zeros((*size, 3), dtype=np.uint8)
    canvas[y : y + rows, x : x + columns] = part
    return canvas


class Shrunk(npt.NDArray[np.uint8]):
    """A picture decoded at less than the size (H, W) it was `recorded` at."""

    recorded: tuple[int, int]


def _part(image: Image, rectangle: tuple[int, int, int, int]) -> Image:
    """The rectangle of the recorded picture, whose edges may lie between the pixels of one that was decoded at less."""
    top, left, height, width = rectangle
    if not isinstance(image, Shrunk) or (height, width) == image.recorded:
        return image[top : top + height, left : left + width]
    y, x = (_factor(less, whole) for less, whole in zip(image.shape, image.recorded, strict=False))
    middle = ((left + width / 2) * x - 0.5, (top + height / 2) * y - 0.5)
    return np.asarray(
        cv2.getRectSubPix(image.view(np.ndarray), (round(width * x), round(height * y)), middle), np.uint8
    )


def _factor(less: int, whole: int) -> float:
    """By which a side was shrunk: JPEGs by eighths, rounded up to whole pixels, videos by what the pixels say."""
    eighths = round(8 * less / whole) / 8
    return eighths if 0 <= less - eighths * whole < 1 else less / whole


def recorded_size(image: Image) -> tuple[int, int]:
    """(H, W) of a picture before it was decoded at less."""
    height, width = image.recorded if isinstance(image, Shrunk) else image.shape[:2]
    return height, width


def encode(image: Image, quality: int = JPEG_QUALITY) -> bytes:
    """uint8 (H, W, 3) RGB → JPEG without chroma subsampling, which small pictures cannot afford."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "444")


def resize(image: Image, size: tuple[int, int]) -> Image:
    """uint8 (H, W, 3) → `size` (H, W); areas are averaged when shrinking, so that fine lines do not flicker."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def read_image(path: Path, where: str, size: tuple[int, int], shrink: bool = False) -> Image | bytes:
    """The RGB picture in a JPEG or PNG file, uint8 (H, W, 3), or the file's own bytes where it is a sound JPEG of
    `size` (H, W) already. `where` names the row that asks for it, for the error.

    shrink: for a caller who hands the picture on as it is: one that is far larger than `size` is decoded at less, as a
    `Shrunk`. UserError for what cannot be decoded or has more than `LARGEST_PIXELS`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: the picture {path} cannot be read ({error.strerror or error})") from error
    return image_in(data, str(path), where, size, shrink)


def image_in(data: bytes, name: str, where: str, size: tuple[int, int], shrink: bool = False) -> Image | bytes:
    """As `read_image`, of a file's bytes; `name` says which picture it is, for the error."""
    if not data:
        raise UserError(f"{where}: the picture {name} is empty (0 bytes)")
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data, size, shrink)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
    except ValueError as error:
        raise UserError(f"{where}: the picture {name} is {_reason(error)}") from error
    raise UserError(f"{where}: {name} is not a picture that can be read, neither JPEG nor PNG")


def _jpeg(data: bytes, size: tuple[int, int], shrink: bool) -> Image | bytes:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(height, width)
        rows, columns = SPARE * size[0], SPARE * size[1]
        if shrink and height >= 2 * rows and width >= 2 * columns:
            small = simplejpeg.decode_jpeg(data, "RGB", min_height=rows, min_width=columns).view(Shrunk)
            small.recorded = (height, width)
            return small
        image: Image = simplejpeg.decode_jpeg(data, "RGB")
    except _TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"a damaged JPEG ({_reason(error)})") from error
    return data if image.shape[:2] == size else image


def _png(data: bytes) -> Image:
    if len(data) < 24 or b"IEND" not in data[-12:]:
        raise ValueError("a truncated PNG")
    width, height = struct.unpack(">II", data[16:24])
    _check_pixels(height, width)
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise ValueError("a damaged PNG")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


class _TooLargeError(ValueError):
    """It claims more pixels than anybody records."""


def _check_pixels(height: int, width: int) -> None:
    if height * width > LARGEST_PIXELS:
        raise _TooLargeError(f"{width}x{height}, and {LARGEST_PIXELS // 1_000_000} million pixels are the most read")


def decode_all(jpegs: Sequence[bytes], out: npt.NDArray[np.uint8]) -> None:
    """Decodes JPEGs of one size into `out`, uint8 (N, H, W, 3); a ValueError carries the index of a bad one first."""
    for index, data in enumerate(jpegs):
        try:
            decoded = simplejpeg.decode_jpeg(data, "RGB", buffer=out[index])
            if decoded.shape != out.shape[1:]:
                raise ValueError("it is smaller")
        except ValueError as error:
            raise ValueError(index, _other_size(data, out.shape[1:3]) or _reason(error)) from error


def _other_size(data: bytes, size: tuple[int, ...]) -> str | None:
    with suppress(ValueError):
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (height, width) != size:
            return f"it is {height}x{width} where the store says {size[0]}x{size[1]}"
    return None


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".").replace("\n", " ") or type(error).__name__
