"""EXIF orientations of images and display matrices of videos, for every way in which sources read images."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from daydrive.data import images, video
from daydrive.data.orientation import UPRIGHT, of_exif
from daydrive.data.prepare.prepare import prepare
from daydrive.data.store.store import Store
from helpers.drives import write_drive, write_udacity
from helpers.open_formats import write_tub, write_video

ORIENTATIONS = range(1, 9)


def quarters(size: tuple[int, int]) -> np.ndarray:
    """An image whose quarters differ, so that each of the eight orientations looks different."""
    height, width = size
    image = np.full((height, width, 3), 20, dtype=np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :], image[height // 2 :, : width // 2] = (
        230, 160, 90,
    )  # fmt: skip
    return image


def tagged(image: np.ndarray, orientation: int, kind: str = "JPEG") -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    more = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(image).save(file, kind, exif=exif, **more)
    return file.getvalue()


def upright(data: bytes) -> np.ndarray:
    """As Pillow shows it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_images_are_set_upright(orientation: int, kind: str) -> None:
    data = tagged(quarters((48, 64)), orientation, kind)
    read = images.image_in(data, "a", "b", (8, 8))
    assert isinstance(read, np.ndarray) and np.array_equal(read, upright(data))
    assert not of_exif(simplejpeg.encode_jpeg(read, 95)).turns


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_large_images_are_reduced_and_set_upright(orientation: int) -> None:
    data = tagged(quarters((480, 640)), orientation)
    expected = images.resize(upright(data), (24, 16))
    read = images.image_in(data, "a", "b", (24, 16), shrink=True)
    assert isinstance(read, images.ReducedImage) and images.recorded_size(read) == upright(data).shape[:2]
    assert np.abs(images.fitted(read, (24, 16), "stretch").astype(int) - expected).mean() < 3
    cropped = images.fitted(upright(data), (24, 16), "crop")
    assert np.abs(images.fitted(read, (24, 16), "crop").astype(int) - cropped).mean() < 3


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_jpeg_of_the_right_size_is_copied_only_if_it_is_upright(orientation: int) -> None:
    data = tagged(quarters((32, 32)), orientation)
    assert isinstance(images.image_in(data, "a", "b", (32, 32)), bytes) is (orientation == 1)


@pytest.mark.parametrize("cut", [2, 8, 14, 20, 26])
def test_a_damaged_tag_leaves_the_image_as_it_is(cut: int) -> None:
    data = tagged(quarters((48, 64)), 6)
    start = data.index(b"Exif\0\0") + 6
    spoiled = data[:start] + b"\xff" * cut + data[start + cut :]
    assert of_exif(spoiled) == UPRIGHT
    assert images.image_in(spoiled, "a", "b", (8, 8)).shape == (48, 64, 3)


def of_folder(root: Path, data: bytes) -> None:
    write_drive(root / "drive", 30)
    for file in (root / "drive" / "images").iterdir():
        file.unlink()
        file.with_suffix(".jpg").write_bytes(data)


def of_udacity(root: Path, data: bytes) -> None:
    for file in (write_udacity(root, [100 * k for k in range(40)]) / "IMG").iterdir():
        file.write_bytes(data)


def of_donkeycar(root: Path, data: bytes) -> None:
    for file in (write_tub(root, (40,)) / "images").iterdir():
        file.write_bytes(data)


@pytest.mark.parametrize(
    ("dataset", "write"), [("folder", of_folder), ("udacity", of_udacity), ("donkeycar", of_donkeycar)]
)
def test_sources_store_upright_images_without_the_tag(
    dataset: str, write: Callable[[Path, bytes], None], tmp_path: Path
) -> None:
    data = tagged(quarters((32, 32)), 6)
    write(tmp_path / "raw", data)
    store = Store.open(prepare(dataset, tmp_path / "raw", tmp_path / "store", (32, 32), workers=1))
    stored = store.read(np.arange(3))[0][1]
    assert b"Exif" not in stored
    assert np.abs(simplejpeg.decode_jpeg(stored).astype(int) - upright(data)).mean() < 2


ONE = 1 << 16
MATRICES = {
    "upright": (ONE, 0, 0, ONE),
    "mirrored": (-ONE, 0, 0, ONE),
    "upside down": (-ONE, 0, 0, -ONE),
    "mirrored top to bottom": (ONE, 0, 0, -ONE),
    "transposed": (0, ONE, ONE, 0),
    "clockwise": (0, ONE, -ONE, 0),
    "transposed along the other diagonal": (0, -ONE, -ONE, 0),
    "counterclockwise": (0, -ONE, ONE, 0),
}


def with_matrix(file: Path, a: int, b: int, c: int, d: int) -> None:
    """Sets the display matrix of an MP4."""
    data = file.read_bytes()
    start = data.index(b"tkhd") + 44
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(data[:start] + matrix + data[start + 36 :])


@pytest.mark.parametrize("name", MATRICES)
def test_videos_are_shown_as_their_display_matrix_says(name: str, tmp_path: Path) -> None:
    recorded = quarters((48, 64))
    file = write_video(tmp_path / "a.mp4", [100 * k for k in range(5)], [recorded] * 5)
    a, b, c, d = MATRICES[name]
    with_matrix(file, a, b, c, d)
    times = video.frame_times(file).seconds
    shown = next(video.frames_at(file, times, 0.04))
    height, width = shown.shape[:2]
    assert (height, width) == ((48, 64) if a else (64, 48))
    for y, x in ((10, 12), (10, 50), (38, 12), (38, 50)):
        column, row = ((a * x + c * y) // ONE) % width, ((b * x + d * y) // ONE) % height
        assert abs(int(shown[row, column, 0]) - int(recorded[y, x, 0])) < 12
    reduced = next(video.frames_at(file, times, 0.04, (8, 4)))
    assert images.recorded_size(reduced) == (height, width)
