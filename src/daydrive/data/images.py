"""Image files: reading recorded images, fitting them to a size, and encoding and decoding JPEGs."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from daydrive.data.orientation import UPRIGHT, of_exif
from daydrive.errors import UserError
from daydrive.types import Image

JPEG_QUALITY = 95

JPEG_START, JPEG_END, PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"

MAX_PIXELS = 100_000_000
"""Maximum height times width of an image; the header of a small file may claim any size."""

MIN_OVERSAMPLING = 3
"""A JPEG is decoded at a reduced scale if this leaves at least this multiple of the target size on each side: from
1600x900 to 64x64 this is 2.4 times as fast, with 52 dB PSNR to the result from the full image."""

Fit = Literal["stretch", "crop", "letterbox"]


class Geometry(NamedTuple):
    """Rectangles (top, left, height, width): the part of the recorded image that is `shown`, in recorded pixels, and
    its position in the stored image, `placed`, in stored pixels."""

    shown: tuple[int, int, int, int]
    placed: tuple[int, int, int, int]

    @property
    def pixel_aspect(self) -> float:
        """Width / height of a stored pixel in the recorded image."""
        (_, _, height, width), (_, _, rows, columns) = self
        return width / height * rows / columns


def geometry(recorded: tuple[int, int], size: tuple[int, int], fit: Fit) -> Geometry:
    """Return how an image of size `recorded` (H, W) is fitted to `size` (H, W).

    stretch: the whole image, changing its aspect ratio. crop: the largest central part with the aspect ratio of `size`.
    letterbox: the whole image with its aspect ratio, padded with black bars.
    """
    (height, width), (rows, columns) = recorded, size
    full_image, full_target = (0, 0, height, width), (0, 0, rows, columns)
    if fit == "crop":
        return Geometry(
            _centred(recorded, (_scaled(width, rows, columns), _scaled(height, columns, rows))), full_target
        )
    if fit == "letterbox":
        return Geometry(full_image, _centred(size, (_scaled(columns, height, width), _scaled(rows, width, height))))
    return Geometry(full_image, full_target)


def _scaled(length: int, numerator: int, denominator: int) -> int:
    return max(1, round(length * numerator / denominator))


def _centred(outer: tuple[int, int], inner: tuple[int, int]) -> tuple[int, int, int, int]:
    """The centred rectangle of at most `inner` (H, W) in `outer` (H, W)."""
    height, width = min(outer[0], inner[0]), min(outer[1], inner[1])
    return (outer[0] - height) // 2, (outer[1] - width) // 2, height, width


def fitted(image: Image, size: tuple[int, int], fit: Fit) -> Image:
    """Fit uint8 (H, W, 3) to `size` (H, W), as described by `geometry`."""
    if image.shape[:2] == size:
        return image
    shown, (y, x, rows, columns) = geometry(recorded_size(image), size, fit)
    content = resize(_crop(image, shown), (rows, columns))
    if (rows, columns) == size:
        return content
    canvas = np.zeros((*size, 3), dtype=np.uint8)
    canvas[y : y + rows, x : x + columns] = content
    return canvas


class ReducedImage(np.ndarray[tuple[int, ...], np.dtype[np.uint8]]):
    """An image decoded at a reduced scale. recorded: its full size (H, W)."""

    recorded: tuple[int, int]


def _crop(image: Image, rectangle: tuple[int, int, int, int]) -> Image:
    """Crop a rectangle given in recorded pixels; in a reduced image its edges may lie between pixels."""
    top, left, height, width = rectangle
    if not isinstance(image, ReducedImage) or (height, width) == image.recorded:
        return image[top : top + height, left : left + width]
    y, x = (_scale_of(reduced, recorded) for reduced, recorded in zip(image.shape, image.recorded, strict=False))
    centre = ((left + width / 2) * x - 0.5, (top + height / 2) * y - 0.5)
    return np.asarray(
        cv2.getRectSubPix(image.view(np.ndarray), (round(width * x), round(height * y)), centre), np.uint8
    )


def _scale_of(reduced: int, recorded: int) -> float:
    """Scale of a side: JPEGs are reduced in eighths, rounded up to whole pixels; videos by the ratio of the sizes."""
    eighths = round(8 * reduced / recorded) / 8
    return eighths if 0 <= reduced - eighths * recorded < 1 else reduced / recorded


def recorded_size(image: Image) -> tuple[int, int]:
    """The full size (H, W) of an image, also of a reduced one."""
    height, width = image.recorded if isinstance(image, ReducedImage) else image.shape[:2]
    return height, width


def encode(image: Image, quality: int = JPEG_QUALITY) -> bytes:
    """Encode uint8 (H, W, 3) RGB as JPEG without chroma subsampling, which would degrade small images too much."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "444")


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resize uint8 (H, W, 3) to `size` (H, W); downscaling averages areas, so that fine lines do not flicker."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    downscales = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if downscales else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def read_image(path: Path, where: str, size: tuple[int, int], shrink: bool = False) -> Image | bytes:
    """Read the RGB image in a JPEG or PNG file, uint8 (H, W, 3), upright as its EXIF tag states, or return the bytes of
    the file if it is a valid upright JPEG of `size` (H, W) already. where: the row that refers to the image, for error
    messages.

    shrink: decode an image much larger than `size` at a reduced scale, as a `ReducedImage`. Raises UserError for an
    image that cannot be decoded or has more than `MAX_PIXELS`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{where}: the image {path} cannot be read ({error.strerror or error})") from error
    return image_in(data, str(path), where, size, shrink)


def damage(path: Path) -> str | None:
    """What is wrong with an image file: 'missing', 'empty' or 'damaged'; None if it can be read.

    Reads only both ends of a file that ends as a JPEG does.
    """
    try:
        with path.open("rb") as file:
            if not (start := file.read(8)):
                return "empty"
            if start[:2] == JPEG_START and file.seek(0, os.SEEK_END) > 4:
                file.seek(-2, os.SEEK_END)
                if file.read() == JPEG_END:
                    return None
        read_image(path, str(path), (0, 0))
    except FileNotFoundError:
        return "missing"
    except (OSError, UserError):
        return "damaged"
    return None


def image_in(data: bytes, name: str, where: str, size: tuple[int, int], shrink: bool = False) -> Image | bytes:
    """As `read_image`, for the content of a file. name: of the image, for error messages."""
    if not data:
        raise UserError(f"{where}: the image {name} is empty (0 bytes)")
    try:
        if data[:2] == JPEG_START:
            return _jpeg(data, size, shrink)
        if data[:8] == PNG_START:
            return of_exif(data).upright(_png(data))
    except ValueError as error:
        raise UserError(f"{where}: the image {name} is {_reason(error)}") from error
    raise UserError(f"{where}: {name} is not a supported image, neither JPEG nor PNG")


def _jpeg(data: bytes, size: tuple[int, int], shrink: bool) -> Image | bytes:
    orientation = of_exif(data)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(height, width)
        target = size[::-1] if orientation.sideways else size
        rows, columns = MIN_OVERSAMPLING * target[0], MIN_OVERSAMPLING * target[1]
        if shrink and height >= 2 * rows and width >= 2 * columns:
            decoded = simplejpeg.decode_jpeg(data, "RGB", min_height=rows, min_width=columns)
            reduced = orientation.upright(decoded).view(ReducedImage)
            reduced.recorded = (width, height) if orientation.sideways else (height, width)
            return reduced
        image: Image = orientation.upright(simplejpeg.decode_jpeg(data, "RGB"))
    except _TooLargeError:
        raise
    except ValueError as error:
        raise ValueError(f"a damaged JPEG ({_reason(error)})") from error
    return data if image.shape[:2] == size and orientation == UPRIGHT else image


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
    """The image has more than `MAX_PIXELS`."""


def _check_pixels(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise _TooLargeError(f"{width}x{height}, more than the maximum of {MAX_PIXELS // 1_000_000} million pixels")


def decode_all(jpegs: Sequence[bytes], out: npt.NDArray[np.uint8]) -> None:
    """Decode JPEGs of one size into `out`, uint8 (N, H, W, 3). Raises ValueError(index, reason) for an invalid one."""
    for index, data in enumerate(jpegs):
        try:
            decoded = simplejpeg.decode_jpeg(data, "RGB", buffer=out[index])
            if decoded.shape != out.shape[1:]:
                raise ValueError("its size differs")
        except ValueError as error:
            raise ValueError(index, _other_size(data, out.shape[1:3]) or _reason(error)) from error


def _other_size(data: bytes, size: tuple[int, ...]) -> str | None:
    with suppress(ValueError):
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (height, width) != size:
            return f"it is {height}x{width} and the store has {size[0]}x{size[1]}"
    return None


def _reason(error: Exception) -> str:
    return str(error).strip().rstrip(".").replace("\n", " ") or type(error).__name__
