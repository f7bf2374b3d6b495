"""Comparison of a steering column with the motion of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from daydrive.data.images import resize
from daydrive.data.kinematics.signals import lag
from daydrive.data.quality.doctor.motion import SIDE, pyramid, shift
from daydrive.data.sources.mapped.columns import Array
from daydrive.data.sources.mapped.recording import Recording

MAX_FRAMES = 1200
"""Consecutive frames that are compared, those with the most steering."""

CONFIRMED = 0.4
"""Correlation from which on the images tell the sign."""


class ImageTurn(NamedTuple):
    """first: index of the first frame. times (K,) s. turn (K,): fraction of the image's width per second by which the
    camera turns from each frame to the next, positive to the right."""

    first: int
    times: Array
    turn: Array


class Agreement(NamedTuple):
    """correlation: of the steering with the turn of the images, at the delay of the images, s."""

    correlation: float
    delay: float

    @property
    def is_clear(self) -> bool:
        return abs(self.correlation) >= CONFIRMED


def image_turn(recording: Recording, steering: Array) -> ImageTurn:
    """The turn of the camera in the `MAX_FRAMES` consecutive frames with the most variation of `steering` (N,)."""
    known = recording.known
    length = min(MAX_FRAMES, len(known))
    starts = range(0, len(known) - length + 1, max(1, length // 4))
    start = max(starts, key=lambda k: float(np.std(steering[known[k : k + length]])))
    chosen = known[start : start + length]
    greys = _greys(recording, chosen.tolist())
    turns = [-shift(before, after).right for before, after in pairwise(pyramid(grey) for grey in greys)]
    times = recording.times[chosen]
    return ImageTurn(int(chosen[0]), times[:-1], np.array(turns) / np.diff(times))


def agreement(steering: Array, turn: ImageTurn, speed: Array | None) -> Agreement:
    """Correlation of steering (N,), times the speed (N,) where it is known, with the turn of the images.

    NaN if one of them does not vary or there are fewer than 20 frames.
    """
    part = slice(turn.first, turn.first + len(turn.turn))
    commanded = steering[part] * (1.0 if speed is None else speed[part])
    if len(commanded) < 20 or np.std(commanded) < 1e-9:
        return Agreement(float("nan"), 0.0)
    hz = 1.0 / float(np.median(np.diff(turn.times)))
    found = lag(commanded, turn.turn, hz)
    return Agreement(found.correlation, found.frames / hz)


def _greys(recording: Recording, chosen: Sequence[int]) -> Iterator[np.ndarray]:
    for image in recording.images(chosen, (SIDE, SIDE)):
        rgb = simplejpeg.decode_jpeg(image, "RGB") if isinstance(image, bytes) else image
        grey = cv2.cvtColor(resize(rgb, (SIDE, SIDE)), cv2.COLOR_RGB2GRAY)
        yield np.asarray(grey, np.float32)
