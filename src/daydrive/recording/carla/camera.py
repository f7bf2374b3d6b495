"""A camera on the car whose pictures are matched with the world's frames."""

from __future__ import annotations

import queue
import time
from typing import Any

import numpy as np

from daydrive.types import Image

TIMEOUT = 10.0
"""seconds that a picture may take after its tick"""

MOUNT = {"x": 1.3, "z": 1.7}
"""m ahead of and above the middle of the car: in front of the windscreen"""


class Camera:
    """Pictures arrive from another thread and wait in a queue; `take` finds the one of a frame."""

    def __init__(self, sensor: Any) -> None:
        self.waiting: queue.Queue[Any] = queue.Queue()
        sensor.listen(self.waiting.put)

    def take(self, frame: int) -> Image | None:
        """uint8 (H, W, 3) RGB of this frame; None where it doesn't come within `TIMEOUT` seconds, or a later one does.
        What is older is thrown away."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                image = self.waiting.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                return None
            if image.frame == frame:
                return rgb(image)
            if image.frame > frame:
                self.waiting.put(image)
                return None


def rgb(image: Any) -> Image:
    """A picture of CARLA, BGRA in a row of bytes, as uint8 (H, W, 3)."""
    pixels = np.frombuffer(image.raw_data, dtype=np.uint8).reshape(image.height, image.width, 4)
    return np.ascontiguousarray(pixels[:, :, 2::-1])


def blueprint(library: Any, size: tuple[int, int], fov: float) -> Any:
    """Of a camera of `size` (H, W) that sees `fov` degrees from left to right, at every tick."""
    found = library.find("sensor.camera.rgb")
    for name, value in (("image_size_y", size[0]), ("image_size_x", size[1]), ("fov", fov), ("sensor_tick", 0.0)):
        found.set_attribute(name, str(value))
    return found
