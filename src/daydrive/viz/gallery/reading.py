"""Reading the images and actions of a drive for display."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg

from daydrive.data.store.store import DriveInfo, Store
from daydrive.types import Image
from daydrive.viz.images import INK, write_on


@dataclass(frozen=True)
class View:
    """chosen: (K,) frame numbers of `images`; actions: (N, 4); speed: (N,) in `speed_unit`, or None."""

    drive: DriveInfo
    hz: float
    pixel_aspect: float
    chosen: npt.NDArray[np.int64]
    images: list[Image]
    actions: npt.NDArray[np.float32]
    speed: npt.NDArray[np.float64] | None
    speed_unit: str

    @property
    def seconds(self) -> float:
        return self.drive.frames / self.hz

    @property
    def title(self) -> str:
        label = f"{self.drive.frames} frames, {self.seconds:.1f} s at {self.hz:g} Hz"
        return f"{self.drive.name}  ({self.drive.split}, {label})"


def read_drive(store: Store, drive: DriveInfo, images: int) -> View:
    """At most `images` frames of a drive, evenly spaced, and all of its actions."""
    rows = np.arange(drive.start, drive.start + drive.frames)
    count = min(images, drive.frames)
    chosen = (np.arange(count) * drive.frames + drive.frames // 2) // count
    speed, unit = None, ""
    if "speed" in store.schema.names:
        column = np.asarray(store.read_values(rows, ["speed"])["speed"], dtype=np.float64)
        speed = column if np.isfinite(column).any() else None
        unit = str(store.metadata.get("values", {}).get("speed", "")).split(",")[0].split(" ")[0]
    jpegs = store.read(rows[chosen])[0]
    shown = [_decoded(jpeg, store.image_size) for jpeg in jpegs]
    return View(drive, store.hz, store.pixel_aspect, chosen, shown, store.read_actions(rows), speed, unit)


def _decoded(jpeg: bytes, size: tuple[int, int]) -> Image:
    """uint8 (H, W, 3); a grey image labelled "damaged" if the JPEG cannot be decoded."""
    try:
        return np.asarray(simplejpeg.decode_jpeg(jpeg, "RGB"), dtype=np.uint8)
    except ValueError:
        blank: Image = np.full((*size, 3), 150, dtype=np.uint8)
        letters = max(8, size[1] // 6)
        return write_on(blank, [("damaged", (size[1] / 2, size[0] / 2), "mm")], size=letters, colour=INK)
