"""Image features of a drive: a few numbers per frame, so that drives of any length are read only once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from daydrive.data.images import decode_all
from daydrive.data.quality.doctor.motion import SIDE, pyramid, shift
from daydrive.data.quality.doctor.readings import Column, Flags, Readings, numeric_columns
from daydrive.data.store.store import DriveInfo, Store

Images = npt.NDArray[np.uint8]

CHUNK = 256
HASH_SIDE = 12
"""Side of the block of low DCT frequencies whose signs form the perceptual hash."""
HASH_BITS = HASH_SIDE * HASH_SIDE - 1
MEAN_SIDE = 16
"""Side of the mean image of a drive."""


@dataclass(frozen=True)
class DriveFeatures(Readings):
    """Readings and image features of a drive of N frames.

    right, growth, fit (N-1,): of `motion.Shift` from each frame to the next. change (N-1,): mean absolute difference of
    grey levels to the next frame. level, contrast (N,): mean and standard deviation of the grey levels. sharpness (N,).
    blueness (N, 2): (blue - red) / (blue + red) of the upper and the lower third. hashes (N, B) uint8: packed bits.
    mean (MEAN_SIDE, MEAN_SIDE): mean grey image. valid (N,): the image can be decoded.
    """

    right: Column
    growth: Column
    fit: Column
    change: Column
    level: Column
    contrast: Column
    sharpness: Column
    blueness: Column
    hashes: Images
    mean: Column
    valid: Flags


def extract_features(store: Store, drive: DriveInfo, frames_done: Callable[[int], None] | None = None) -> DriveFeatures:
    """Read a drive in chunks of `CHUNK` frames. frames_done: called with the number of frames of each chunk."""
    extractor = FeatureExtractor()
    actions, columns = [], []
    names = numeric_columns(store)
    for first in range(0, drive.frames, CHUNK):
        rows = drive.start + np.arange(first, min(first + CHUNK, drive.frames))
        jpegs, acts = store.read(rows)
        extractor.add(*decode(jpegs, store.image_size))
        actions.append(acts.astype(np.float64))
        columns.append(store.read_values(rows, names))
        if frames_done is not None:
            frames_done(len(rows))
    values = {name: np.concatenate([chunk[name] for chunk in columns]).astype(np.float64) for name in names}
    return extractor.finish(
        Readings(
            drive.name, drive.split, drive.start, store.hz, np.concatenate(actions), values,
            store.metadata.get("values", {}),
        )
    )  # fmt: skip


class FeatureExtractor:
    """Accumulates the image features of a drive from its frames in order."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._motions: list[tuple[float, ...]] = []
        self._hashes: list[Images] = []
        self._valid: list[Flags] = []
        self._sum = np.zeros((MEAN_SIDE, MEAN_SIDE))
        self._last: tuple[Any, Any] | None = None

    def add(self, pixels: Images, valid: Flags) -> None:
        """Add frames. pixels: uint8 (N, H, W, 3). valid: (N,), whether each image could be decoded."""
        for image in pixels:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
            self._rows.append((float(grey.mean()), float(grey.std()), sharpness(grey), *_blueness(image)))
            small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA) if grey.shape != (SIDE, SIDE) else grey
            levels = pyramid(small)
            if self._last is not None:
                previous, previous_levels = self._last
                motion = shift(previous_levels, levels)
                self._motions.append((motion.right, motion.growth, motion.fit, float(np.abs(small - previous).mean())))
            self._last = small, levels
            self._hashes.append(perceptual_hash(small))
            self._sum += cv2.resize(small, (MEAN_SIDE, MEAN_SIDE), interpolation=cv2.INTER_AREA)
        self._valid.append(valid)

    def finish(self, readings: Readings) -> DriveFeatures:
        """Return the features of all added frames, combined with the readings of the drive."""
        rows = np.array(self._rows).reshape(-1, 5)
        motions = np.array(self._motions).reshape(-1, 4)
        return DriveFeatures(
            **vars(readings), right=motions[:, 0], growth=motions[:, 1], fit=motions[:, 2], change=motions[:, 3],
            level=rows[:, 0], contrast=rows[:, 1], sharpness=rows[:, 2], blueness=rows[:, 3:],
            hashes=np.array(self._hashes), mean=self._sum / max(1, len(rows)), valid=np.concatenate(self._valid),
        )  # fmt: skip


def sharpness(grey: npt.NDArray[np.float32]) -> float:
    """Ratio of the variance of the Laplacian to that at half resolution. Fog and darkness reduce both, blur reduces
    mainly the first. grey: (H, W)."""
    fine = cv2.Laplacian(grey, cv2.CV_32F).var()
    coarse = cv2.Laplacian(cv2.pyrDown(grey), cv2.CV_32F).var()
    return float(fine / (coarse + 1.0))


def perceptual_hash(grey: npt.NDArray[np.float32]) -> Images:
    """Perceptual hash (packed bits): signs of the low DCT frequencies of an image, without the mean."""
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    return np.packbits(cv2.dct(small)[:HASH_SIDE, :HASH_SIDE].ravel()[1:] > 0)


def decode(jpegs: list[bytes], size: tuple[int, int]) -> tuple[Images, Flags]:
    """Decode JPEGs to uint8 (N, H, W, 3), black where an image is damaged, and return which are valid, (N,)."""
    pixels = np.zeros((len(jpegs), *size, 3), np.uint8)
    valid = np.ones(len(jpegs), dtype=bool)
    for i, jpeg in enumerate(jpegs):
        try:
            decode_all([jpeg or b""], pixels[i : i + 1])
        except ValueError:
            pixels[i], valid[i] = 0, False
    return pixels, valid


def _blueness(image: Images) -> tuple[float, float]:
    third = max(1, len(image) // 3)
    ratios = []
    for region in (image[:third], image[-third:]):
        red, _, blue = region.reshape(-1, 3).mean(0, dtype=np.float64)
        ratios.append(float((blue - red) / (blue + red + 1.0)))
    return ratios[0], ratios[1]
