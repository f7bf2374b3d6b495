"""The part of a session that computes: its drive, previews and recording. Everything here runs in one thread."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from daydrive.data.images import encode
from daydrive.drive.action_log import action_log
from daydrive.drive.comparison import Choice
from daydrive.drive.protocol import pack
from daydrive.drive.recording import Recorded, Recording
from daydrive.drive.scenario import Scenario
from daydrive.drive.simulation import Simulation, Step
from daydrive.drive.simulators import Action, Simulator
from daydrive.errors import UserError
from daydrive.types import Image

JPEG_QUALITY = 92
PREVIEW_STEPS, PREVIEW_STEERING = 10, 0.6


class Command(NamedTuple):
    """An action, with the viewer and the sequence number of the message that it came with."""

    action: Action
    viewer: int = 0
    sequence: int = 0


STILL = Command(np.array([0, 0, 0, 1], dtype=np.float32))


class DriveEngine:
    """The methods that change what is seen return a binary message with the images.

    recording: whether frames are being recorded.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.simulation = Simulation(scenario.simulators())
        self.comparison = scenario.comparison()
        self.moment_index, self.seed = 0, scenario.seed
        self._frames = 0
        self._preview: _Preview | None = None
        self._recording: Recording | None = None
        self._pending: tuple[Image, Action, float | None] | None = None
        self._step: Step
        self._command = STILL

    @property
    def recording(self) -> bool:
        return self._recording is not None

    def start(self, moment_index: int | None) -> bytes:
        """Start a drive. moment_index: None for the same moment. Raises UserError if there is no such moment."""
        index = self.moment_index if moment_index is None else moment_index
        names = self.scenario.moments.names
        if index >= len(names):
            raise UserError(f"there is no moment {index}; there are {len(names)}, from 0")
        moment = self.scenario.moments.load(names[index])
        if moment.road_state is None:
            self.simulation.reference = None
        self.stop_recording()
        self.moment_index = index
        self._command = STILL
        return self._shown(self.simulation.reset(moment, self.seed))

    def advance(self, command: Command) -> bytes:
        """Take a step."""
        simulation = self.simulation
        before, speed = simulation.images[0], self._step.speed
        started = time.perf_counter()
        step = simulation.advance(command.action)
        if self._recording is not None:
            self._flush()
            self._pending = (before, command.action, speed)
        self._command = command
        return self._shown(step, 1000 * (time.perf_counter() - started))

    def policy_action(self) -> Action:
        """What the policy does now, from the two newest images. Raises UserError without a policy."""
        if self.scenario.policy is None:
            raise UserError("there is no policy; start `daydrive drive` with --policy")
        pair = torch.from_numpy(np.stack(self.simulation.newest_images)).movedim(-1, 1)
        action: Action = self.scenario.policy(pair[None])[0].numpy()
        return action

    def amend(self, command: Command) -> bytes:
        """Replace the newest step by one with another action."""
        started = time.perf_counter()
        step = self.simulation.amend(command.action)
        if self._pending is not None:
            self._pending = (self._pending[0], command.action, self._pending[2])
        self._command = command
        return self._shown(step, 1000 * (time.perf_counter() - started))

    def rewind(self, step: int) -> bytes:
        """Return to an earlier step. Raises UserError for one that cannot be returned to."""
        first, last = self.simulation.earliest, self.simulation.step_number
        if not first <= step <= last:
            raise UserError(f"step {step} cannot be returned to; steps {first} to {last} can")
        self.stop_recording()
        self._command = STILL
        return self._shown(self.simulation.rewind(step))

    def reseed(self, seed: int | None) -> bytes:
        """Sample another future. seed: None for a random one."""
        self.seed = secrets.randbelow(2**31) if seed is None else seed
        self._flush()
        return self._shown(self.simulation.reseed(self.seed))

    def set_reference(self, on: bool) -> bytes:
        """Add or remove the true simulator. Raises UserError where the moment is not one of the road simulator."""
        if on and (not self.scenario.models or self.simulation.moment.road_state is None):
            raise UserError("only drives of a model in the road world have a true simulator to compare with")
        if on and self.comparison is not None:
            raise UserError("the blind comparison shows two models only")
        self._flush()
        return self._shown(self.simulation.set_reference(self.scenario.road() if on else None))

    def show(self) -> bytes:
        """The newest images again."""
        return self._shown(self._step)

    def choose(self, choice: Choice) -> bytes:
        """Record a choice of the blind comparison, and start its next round at another moment."""
        if self.comparison is None:
            raise UserError("there is no blind comparison; start `daydrive drive` with --compare and --blind")
        if self.simulation.step_number == 0:
            raise UserError("drive before you choose")
        self.comparison.choose(choice, self.simulation.moment.name, self.simulation.step_number)
        self.comparison.shuffle()
        return self.start((self.moment_index + 1) % len(self.scenario.moments.names))

    def preview(self, on: bool) -> None:
        self._preview = None
        if on:
            self._preview = _Preview(self.simulation.simulators[0], self._command.action)

    def advance_preview(self) -> bytes | None:
        """Predict one more frame of steering left and right; the images at the end of both, then start again."""
        if self._preview is None:
            self.preview(True)
            assert self._preview is not None
        images = self._preview.advance()
        if images is None:
            return None
        self._preview = None
        seconds = PREVIEW_STEPS / self.scenario.moments.hz
        return pack({"type": "preview", "seconds": seconds}, [encode(image, JPEG_QUALITY) for image in images])

    def start_recording(self, name: str, finished: Callable[[Recorded], None]) -> None:
        """Record from the next step on. Raises UserError if the folder of recordings cannot be written."""
        if self.comparison is not None:
            raise UserError("drives of the blind comparison are not recorded")
        if self._recording is None:
            recording = Recording(self.scenario.output, name, self.scenario.moments.hz, self.scenario.identity())
            recording.start(finished)
            self._recording = recording

    def stop_recording(self) -> Recording | None:
        """End the recording, if there is one; it is written in its own thread."""
        recording, self._recording = self._recording, None
        if recording is not None:
            if self._pending is not None:
                recording.add(*self._pending)
            recording.finish(action_log(self.simulation.path, self.scenario.identity()))
        self._pending = None
        return recording

    def _flush(self) -> None:
        """Record the newest step, which is final from now on."""
        if self._recording is not None and self._pending is not None:
            self._recording.add(*self._pending)
            self._pending = None

    def _shown(self, step: Step, milliseconds: float = 0.0) -> bytes:
        self._step = step
        self._frames += 1
        simulation, views, images = self.simulation, self.scenario.views(), list(step.images)
        model_ms = list(step.milliseconds)
        if simulation.reference is not None:
            views.append({"name": "true simulator", "kind": "simulator"})
        if self.comparison is not None:
            images = [images[side] for side in self.comparison.sides]
            model_ms = [sum(model_ms)]
        recorded = simulation.recorded_action
        started = time.perf_counter()
        jpegs = [encode(image, JPEG_QUALITY) for image in images]
        milliseconds += 1000 * (time.perf_counter() - started)
        header = {
            "type": "frame",
            "frame": self._frames,
            "step": simulation.step_number,
            "earliest": simulation.earliest,
            "views": views,
            "action": [round(value, 4) for value in self._command.action.tolist()],
            "viewer": self._command.viewer,
            "sequence": self._command.sequence,
            "recorded": None if recorded is None else [round(value, 4) for value in recorded.tolist()],
            "model_ms": [round(value, 2) for value in model_ms],
            "server_ms": round(milliseconds, 2),
            "psnr": [round(value, 2) for value in step.psnr],
            "speed": None if step.speed is None else round(step.speed, 2),
            "standing": step.standing,
        }
        return pack(header, jpegs)


class _Preview:
    """Rollouts from one state with constant steering to the left and to the right, one frame of each at a time."""

    def __init__(self, simulator: Simulator, action: Action) -> None:
        self._simulator, self._steps = simulator, 0
        self._states = [simulator.get_state()] * 2
        self._actions = [action.copy(), action.copy()]
        for sign, steered in zip((-1, 1), self._actions, strict=True):
            steered[0] = sign * PREVIEW_STEERING

    def advance(self) -> list[Image] | None:
        """The last images at the end, None before."""
        state, images = self._simulator.get_state(), []
        for k, action in enumerate(self._actions):
            self._simulator.set_state(self._states[k])
            images.append(self._simulator.step(action))
            self._states[k] = self._simulator.get_state()
        self._simulator.set_state(state)
        self._steps += 1
        return images if self._steps == PREVIEW_STEPS else None
