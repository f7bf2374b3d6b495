"""A camera on the car whose images are matched with the frames of the world."""

from __future__ import annotations

import queue
import time
from typing import Any

import numpy as np

from daydrive.types import Image

TIMEOUT = 10.0
"""Seconds to wait for the image of a tick."""

MOUNT = {"x": 1.3, "z": 1.7}
"""Position (m) ahead of and above the centre of the car: in front of the windscreen."""


class Camera:
    """Buffers the images, which arrive from another thread, in a queue; `get` returns that of a frame."""

    def __init__(self, sensor: Any) -> None:
        self.queue: queue.Queue[Any] = queue.Queue()
        sensor.listen(self.queue.put)

    def get(self, frame: int) -> Image | None:
        """Return the image of a frame, uint8 (H, W, 3) RGB; None if it does not arrive within `TIMEOUT` seconds or a
        later one arrives first. Older images are discarded."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                image = self.queue.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                return None
            if image.frame == frame:
                return to_rgb(image)
            if image.frame > frame:
                self.queue.put(image)
                return None


def to_rgb(image: Any) -> Image:
    """Convert a CARLA image (BGRA bytes) to uint8 (H, W, 3) RGB."""
    pixels = np.frombuffer(image.raw_data, dtype=np.uint8).reshape(image.height, image.width, 4)
    return np.ascontiguousarray(pixels[:, :, 2::-1])


def blueprint(library: Any, size: tuple[int, int], fov: float) -> Any:
    """Return the blueprint of a camera of `size` (H, W) with a horizontal field of view of `fov` degrees."""
    found = library.find("sensor.camera.rgb")
    for name, value in (("image_size_y", size[0]), ("image_size_x", size[1]), ("fov", fov), ("sensor_tick", 0.0)):
        found.set_attribute(name, str(value))
    return found
