"""What the doctor keeps of each picture: a handful of numbers, so that a drive of any length is read once."""

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
"""A fingerprint has so many bits a side, each whether a low frequency of the picture is positive."""
BITS = HASH_SIDE * HASH_SIDE - 1
SMALL = 16
"""Side of the mean picture of a drive."""


@dataclass(frozen=True)
class DriveFeatures(Readings):
    """A drive of N frames that was looked at.

    right, grows, fit (N-1,): of `motion.Shift` from a frame to the next. change (N-1,): mean absolute difference of
    grey levels to the next frame. level, contrast (N,): mean and standard deviation of the grey levels. sharpness (N,).
    blueness (N, 2): (blue - red) / (blue + red) of the upper third and of the lower third. hashes (N, B) uint8: packed
    bits. mean (SMALL, SMALL): mean grey picture. seen (N,): the picture can be decoded.
    """

    right: Column
    grows: Column
    fit: Column
    change: Column
    level: Column
    contrast: Column
    sharpness: Column
    blueness: Column
    hashes: Images
    mean: Column
    seen: Flags


def look(store: Store, drive: DriveInfo, done: Callable[[int], None] | None = None) -> DriveFeatures:
    """Reads a drive, `CHUNK` frames at a time. done: told how many frames were looked at."""
    looks = ImageQuality()
    actions, columns = [], []
    names = numeric_columns(store)
    for first in range(0, drive.frames, CHUNK):
        rows = drive.start + np.arange(first, min(first + CHUNK, drive.frames))
        jpegs, acts = store.read(rows)
        looks.add(*decode(jpegs, store.image_size))
        actions.append(acts.astype(np.float64))
        columns.append(store.read_values(rows, names))
        if done is not None:
            done(len(rows))
    values = {name: np.concatenate([chunk[name] for chunk in columns]).astype(np.float64) for name in names}
    return looks.looked(
        Readings(
            drive.name, drive.split, drive.start, store.hz, np.concatenate(actions), values,
            store.metadata.get("values", {}),
        )
    )  # fmt: skip


class ImageQuality:
    """Pictures of a drive, some at a time and in order → its features."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._moves: list[tuple[float, ...]] = []
        self._hashes: list[Images] = []
        self._seen: list[Flags] = []
        self._sum = np.zeros((SMALL, SMALL))
        self._last: tuple[Any, Any] | None = None

    def add(self, pixels: Images, sound: Flags) -> None:
        """pictures: uint8 (N, H, W, 3); sound: (N,)."""
        for image in pixels:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
            self._rows.append((float(grey.mean()), float(grey.std()), sharpness(grey), *_blueness(image)))
            small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA) if grey.shape != (SIDE, SIDE) else grey
            levels = pyramid(small)
            if self._last is not None:
                before, its_levels = self._last
                move = shift(its_levels, levels)
                self._moves.append((move.right, move.grows, move.fit, float(np.abs(small - before).mean())))
            self._last = small, levels
            self._hashes.append(fingerprint(small))
            self._sum += cv2.resize(small, (SMALL, SMALL), interpolation=cv2.INTER_AREA)
        self._seen.append(sound)

    def looked(self, readings: Readings) -> DriveFeatures:
        rows = np.array(self._rows).reshape(-1, 5)
        moves = np.array(self._moves).reshape(-1, 4)
        return DriveFeatures(
            **vars(readings), right=moves[:, 0], grows=moves[:, 1], fit=moves[:, 2], change=moves[:, 3],
            level=rows[:, 0], contrast=rows[:, 1], sharpness=rows[:, 2], blueness=rows[:, 3:],
            hashes=np.array(self._hashes), mean=self._sum / max(1, len(rows)), seen=np.concatenate(self._seen),
        )  # fmt: skip


def sharpness(grey: npt.NDArray[np.float32]) -> float:
    """Variance of the Laplacian of a picture, against that of the same picture at half the size: fog and darkness take
    from both, a blur from the first."""
    fine = cv2.Laplacian(grey, cv2.CV_32F).var()
    coarse = cv2.Laplacian(cv2.pyrDown(grey), cv2.CV_32F).var()
    return float(fine / (coarse + 1.0))


def fingerprint(grey: npt.NDArray[np.float32]) -> Images:
    """Packed bits: signs of the low frequencies of a picture without its mean (perceptual hash by DCT)."""
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    return np.packbits(cv2.dct(small)[:HASH_SIDE, :HASH_SIDE].ravel()[1:] > 0)


def decode(jpegs: list[bytes], size: tuple[int, int]) -> tuple[Images, Flags]:
    """Pictures uint8 (N, H, W, 3), black where one is damaged, and which are sound."""
    pixels = np.zeros((len(jpegs), *size, 3), np.uint8)
    sound = np.ones(len(jpegs), dtype=bool)
    for i, jpeg in enumerate(jpegs):
        try:
            decode_all([jpeg or b""], pixels[i : i + 1])
        except ValueError:
            pixels[i], sound[i] = 0, False
    return pixels, sound


def _blueness(image: Images) -> tuple[float, float]:
    third = max(1, len(image) // 3)
    shares = []
    for part in (image[:third], image[-third:]):
        red, _, blue = part.reshape(-1, 3).mean(0, dtype=np.float64)
        shares.append(float((blue - red) / (blue + red + 1.0)))
    return shares[0], shares[1]
