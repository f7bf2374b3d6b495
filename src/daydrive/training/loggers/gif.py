"""Short videos as bytes that TensorBoard, W&B and every browser play."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

_FASTEST = 0.02
"""Seconds a frame; browsers slow down what is faster."""


def encode_gif(frames: npt.NDArray[np.uint8], hz: float) -> bytes:
    """frames: (T, H, W, 3), T > 0 → an endless GIF of one palette, so that colours don't flicker.

    A GIF counts hundredths of a second: 14 Hz plays at 14.3.
    """
    assert frames.ndim == 4 and frames.shape[-1] == 3 and len(frames)
    palette = Pillow.fromarray(np.concatenate(list(frames))).quantize(256, Pillow.Quantize.FASTOCTREE)
    plain = Pillow.Dither.NONE  # dots that dance from frame to frame are worse than bands
    first, *rest = (Pillow.fromarray(frame).quantize(palette=palette, dither=plain) for frame in frames)
    file = io.BytesIO()
    milliseconds = 10 * round(100 * max(_FASTEST, 1 / hz))
    first.save(file, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    return file.getvalue()
