"""A drive in progress: simulators that take the same actions from one moment, and its history.

The newest step can be replaced when the action changes before the next step is due, and a drive can return to an
earlier step and continue with other actions. States of every tenth step are stored for that; those between are computed
again, so that memory stays constant.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from daydrive.drive.moments import Moment
from daydrive.drive.simulators import Action, RoadSimulator, Simulator
from daydrive.metrics import psnr
from daydrive.models.rollout import STANDING_CHANGE
from daydrive.types import Image

STATE_INTERVAL = 10
REWINDABLE_STEPS = 600
LONGEST = 36_000
"""Steps after which a drive ends, an hour at 10 Hz."""
STANDING_SPEED = 0.3
"""m/s below which a car stands."""


class Step(NamedTuple):
    """images: of each simulator, uint8 (H, W, 3). milliseconds: that each took. psnr: in dB to the true simulator's
    image, empty without one. speed: m/s, None if unknown. standing: whether the car stands."""

    images: tuple[Image, ...]
    milliseconds: tuple[float, ...]
    psnr: tuple[float, ...]
    speed: float | None
    standing: bool


class Path(NamedTuple):
    """What a drive did since its moment, enough to repeat it.

    moment: its name. seeds: by the step from which they apply. actions: of each step. hashes: of the first
    simulator's frame after each step.
    """

    moment: str
    seeds: dict[int, int]
    actions: list[Action]
    hashes: list[str]


class Simulation:
    """simulators: the first is the one that is driven, all get its actions."""

    def __init__(self, simulators: Sequence[Simulator]) -> None:
        self._own = list(simulators)
        self.reference: RoadSimulator | None = None
        self._before: list[Any] | None = None

    @property
    def simulators(self) -> list[Simulator]:
        """The simulators, and the true simulator as the last one if there is one."""
        return self._own if self.reference is None else [*self._own, self.reference]

    @property
    def step_number(self) -> int:
        """Number of actions since the moment."""
        return len(self.path.actions)

    @property
    def earliest(self) -> int:
        """The first step that `rewind` can return to."""
        first = min(self._saved)
        return first if first == 0 else first + 1

    @property
    def ended(self) -> bool:
        return self._own[0].ended or self.step_number >= LONGEST

    @property
    def can_amend(self) -> bool:
        return self._before is not None

    @property
    def newest_images(self) -> tuple[Image, Image]:
        """Of the first simulator, the newest last; the same one twice where the drive has just been changed."""
        newest = self.images[0]
        return (newest if self._before is None else self._images_before[0], newest)

    @property
    def recorded_action(self) -> Action | None:
        """What the recorded driver did at this step; None after the end of the recording."""
        recorded = self.moment.recorded
        return recorded[self.step_number] if self.step_number < len(recorded) else None

    def reset(self, moment: Moment, seed: int) -> Step:
        """Start a new drive. The result shows the moment."""
        self.moment = moment
        for simulator in self.simulators:
            simulator.reset(moment, seed)
        self.path = Path(moment.name, {0: seed}, [], [])
        self._saved = {0: self._states()}
        return self._show([moment.image] * len(self.simulators))

    def advance(self, action: Action) -> Step:
        """Take a step. action: float32 (4,)."""
        number, before = self.step_number, self._states()
        if number % STATE_INTERVAL == 0:
            self._saved[number] = before
            self._saved.pop(number - REWINDABLE_STEPS - STATE_INTERVAL, None)
        self._before, self._images_before = before, self.images
        return self._take(action)

    def amend(self, action: Action) -> Step:
        """Replace the action of the newest step; only where `can_amend`."""
        assert self._before is not None
        self._restore(self._before)
        self.path.actions.pop()
        self.path.hashes.pop()
        return self._take(action)

    def reseed(self, seed: int) -> Step:
        """Draw the random numbers of all further steps from another seed; at the moment itself, start anew with it."""
        if self.step_number == 0:
            return self.reset(self.moment, seed)
        self.path.seeds[self.step_number] = seed
        self._reseed_at(self.step_number)
        return self._show(self.images)

    def rewind(self, step: int) -> Step:
        """Return to a step from `earliest` to the newest; later ones are forgotten. The result shows it."""
        if step == 0:
            self._restore(self._saved[0])
            images = [self.moment.image] * len(self.simulators)
        else:
            start = max(number for number in self._saved if number < step)
            self._restore(self._saved[start])
            for number in range(start, step):
                self._reseed_at(number)
                images = [simulator.step(self.path.actions[number]) for simulator in self.simulators]
            self._reseed_at(step)
        self._saved = {number: states for number, states in self._saved.items() if number <= step}
        for later in [number for number in self.path.seeds if number > step]:
            del self.path.seeds[later]
        del self.path.actions[step:], self.path.hashes[step:]
        return self._show(images)

    def set_reference(self, reference: RoadSimulator | None) -> Step:
        """Add the true simulator, brought to this step by the same actions from the moment, or remove it."""
        images = list(self.images[: len(self._own)])
        count = len(self._own)
        self._saved = {number: states[:count] for number, states in self._saved.items()}
        self.reference = reference
        if reference is not None:
            reference.reset(self.moment, 0)
            for number, action in enumerate(self.path.actions):
                if number in self._saved:
                    self._saved[number].append(reference.get_state())
                reference.advance(action)
            if self.step_number in self._saved:
                self._saved[self.step_number].append(reference.get_state())
            images.append(reference.observe() if self.step_number else self.moment.image)
        return self._show(images)

    def _take(self, action: Action) -> Step:
        images, milliseconds = [], []
        for simulator in self.simulators:
            start = time.perf_counter()
            images.append(simulator.step(action))
            milliseconds.append(1000 * (time.perf_counter() - start))
        self.images = tuple(images)
        self.path.actions.append(action)
        self.path.hashes.append(frame_hash(images[0]))
        return self._result(milliseconds, self._images_before[0])

    def _show(self, images: Sequence[Image]) -> Step:
        """The result of something else than a step, after which there is no step to amend."""
        self.images, self._before = tuple(images), None
        return self._result([0.0] * len(images), None)

    def _result(self, milliseconds: Sequence[float], image_before: Image | None) -> Step:
        speed = self._own[0].speed
        if speed is None:
            standing = image_before is not None and _change(image_before, self.images[0]) < STANDING_CHANGE
        else:
            standing = abs(speed) < STANDING_SPEED
        distances = () if self.reference is None else tuple(_psnr(im, self.images[-1]) for im in self.images[:-1])
        return Step(self.images, tuple(milliseconds), distances, speed, standing)

    def _states(self) -> list[Any]:
        return [simulator.get_state() for simulator in self.simulators]

    def _restore(self, states: list[Any]) -> None:
        for simulator, state in zip(self.simulators, states, strict=True):
            simulator.set_state(state)

    def _reseed_at(self, number: int) -> None:
        if number > 0 and number in self.path.seeds:
            for simulator in self.simulators:
                simulator.reseed(self.path.seeds[number])


def frame_hash(image: Image) -> str:
    """64 bits of a frame's hash, in hexadecimal."""
    return hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest()


def _change(a: Image, b: Image) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


def _psnr(a: Image, b: Image) -> float:
    """Equal images have a PSNR of `metrics.PSNR_CAP`."""
    one, other = (torch.from_numpy(image).permute(2, 0, 1) for image in (a, b))
    return float(psnr(one, other, 255.0))
