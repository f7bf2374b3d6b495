"""Small recordings in the formats udacity and folder, and synthetic sources."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import simplejpeg

from daydrive.data.sources import Option, Options
from daydrive.data.store.store import Store
from daydrive.types import Drive, Frame

HEADER = "steering,throttle,brake,gear"


def numbered_image(number: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """uint8 (H, W, 3): a plain color that encodes `number` (0 to 255) and survives JPEG compression."""
    return np.broadcast_to(np.array([number, 255 - number, 128], dtype=np.uint8), (*size, 3)).copy()


def write_udacity(root: Path, milliseconds: Sequence[int], readings: Sequence[tuple[float, ...]] | None = None) -> Path:
    """A Udacity recording with images at these times; readings: steering, throttle, brake, speed of each row."""
    (root / "IMG").mkdir(parents=True)
    lines = []
    for k, offset in enumerate(milliseconds):
        stamp = datetime(2020, 1, 2, 3, 4, 5) + timedelta(milliseconds=offset)
        name = stamp.strftime("center_%Y_%m_%d_%H_%M_%S_") + f"{stamp.microsecond // 1000:03d}.jpg"
        (root / "IMG" / name).write_bytes(simplejpeg.encode_jpeg(numbered_image(k % 256), 95))
        reading = readings[k] if readings else (0.0, 0.5, 0.0, 10.0)
        paths = [rf"C:\Users\someone\{side}\IMG\{name.replace('center', side)}" for side in ("center", "left", "right")]
        lines.append(",".join([*paths, *map(str, reading)]))
    (root / "driving_log.csv").write_text("\n".join(lines) + "\n")
    return root


def write_drive(
    folder: Path, frames: int, rows: Sequence[str] | None = None, header: str = HEADER, size: tuple[int, int] = (40, 60)
) -> Path:
    """A drive in the folder format with JPEG and PNG images; frame k shows `numbered_image(k)`."""
    (folder / "images").mkdir(parents=True)
    for k in range(frames):
        if k % 2:
            cv2.imwrite(str(folder / "images" / f"f{k}.png"), numbered_image(k % 256, size)[..., ::-1])
        else:
            (folder / "images" / f"f{k}.jpg").write_bytes(simplejpeg.encode_jpeg(numbered_image(k % 256, size), 95))
    lines = rows if rows is not None else [f"{k / 1000},0.5,0,1" for k in range(frames)]
    (folder / "actions.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


@dataclass(frozen=True)
class CountedFrames:
    """`count` plain images, with a pause of DAYDRIVE_TEST_PAUSE seconds before each."""

    first: int
    count: int

    def __call__(self) -> Iterator[Frame]:
        for k in range(self.count):
            time.sleep(float(os.environ.get("DAYDRIVE_TEST_PAUSE", "0")))
            action = np.array([k / 100, 0.5, 0, 1], dtype=np.float32)
            yield Frame(numbered_image(self.first + k), action, k / 10, {"number": float(k)})


class CountedSource:
    """A source of synthetic drives that can be slowed down."""

    name = "counted"
    needs_root = False
    split: Literal["drive", "time"] = "drive"
    options: tuple[Option, ...] = (Option("drives", int, 8, "", minimum=1),)

    def describe(self, options: Options) -> dict[str, Any]:
        return {"actions": {}, "values": {"number": "-"}}

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        return [Drive(f"c{i}", 10.0, CountedFrames(20 * i, 10 + i), length=10 + i) for i in range(options["drives"])]


def numbers(store: Store, rows: np.ndarray) -> list[int]:
    """The numbers of the `numbered_image`s in these rows."""
    return [int(simplejpeg.decode_jpeg(jpeg)[:, :, 0].mean().round()) for jpeg in store.read(rows)[0]]


@dataclass(frozen=True)
class GroupedSource(CountedSource):
    """Consecutive pairs of drives belong to the same group."""

    def drives(self, root: Path, options: Options, image_size: tuple[int, int]) -> list[Drive]:
        return [
            Drive(f"c{i}", 10.0, CountedFrames(i, 10), length=10, group=f"g{i // 2}") for i in range(options["drives"])
        ]
