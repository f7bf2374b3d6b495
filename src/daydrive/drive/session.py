"""Sessions: a drive on the clock, the viewers who watch it, and the one of them who drives."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from daydrive.drive.engine import STILL, Command, DriveEngine
from daydrive.drive.protocol import (
    VERSION,
    ActionMessage,
    Choose,
    DrivingMode,
    Hello,
    Message,
    Mode,
    Pace,
    Pause,
    Preview,
    Record,
    Reference,
    Reseed,
    Reset,
    Reveal,
    Rewind,
    SingleStep,
    TakeWheel,
)
from daydrive.drive.recording import Recorded
from daydrive.drive.viewers import Viewer
from daydrive.errors import UserError

WAITING_COMMANDS = 32


class DriveSession:
    """name: in the page's address. compute: the thread for everything that computes, shared by all sessions.

    The drive pauses while nobody watches. `run` has to run as a task.
    """

    def __init__(self, name: str, engine: DriveEngine, thumbnails: list[str | None], compute: Executor) -> None:
        """thumbnails: data URIs of the moments' images, None until they are drawn."""
        self.name, self.viewers = name, list[Viewer]()
        self._engine, self._compute, self._thumbnails = engine, compute, thumbnails
        self._driver: Viewer | None = None
        self._command, self._key_pressed = STILL, False
        self._commands: deque[tuple[Viewer, Message]] = deque()
        self._wake, self._next_viewer = asyncio.Event(), 1
        self._paused, self._pace, self._previewing, self._closed = True, 1.0, False, False
        self._mode: DrivingMode = "human"
        self._notice = ""
        self._due, self._slice_seconds = 0.0, 0.0
        self._recordings = 0

    def add_viewer(self, viewer: Viewer) -> None:
        """Greet a viewer; the first one drives."""
        self.viewers.append(viewer)
        if self._driver is None:
            self._driver = viewer
        moments = self._engine.scenario.moments
        viewer.post({
            "type": "welcome", "version": VERSION, "session": self.name, "viewer": viewer.number, "hz": moments.hz,
            "image_size": list(moments.image_size), "pixel_aspect": moments.pixel_aspect,
            "blind": self._engine.scenario.blind, "policy": self._engine.scenario.policy is not None,
            "moments": [
                {"name": name, "image": image} for name, image in zip(moments.names, self._thumbnails, strict=True)
            ],
        })  # fmt: skip
        self._commands.append((viewer, Hello(type="hello", version=VERSION)))
        self._wake.set()

    def remove_viewer(self, viewer: Viewer) -> None:
        """Forget a viewer; after the driver another one drives, from a standing start."""
        self.viewers.remove(viewer)
        if viewer is self._driver:
            self._driver = self.viewers[0] if self.viewers else None
            self._command, self._paused, self._previewing = STILL, True, False
        self._broadcast_status()
        self._wake.set()

    def next_number(self) -> int:
        """A number for a new viewer."""
        self._next_viewer += 1
        return self._next_viewer - 1

    def receive(self, viewer: Viewer, message: Message) -> None:
        """Handle a message. Raises UserError where it is not allowed."""
        if isinstance(message, TakeWheel):
            self._driver, self._command = viewer, STILL
            self._broadcast_status()
            return
        if isinstance(message, Hello):
            raise UserError("hello is the first message only")
        if viewer is not self._driver:
            raise UserError("another viewer drives; take the wheel first")
        if isinstance(message, ActionMessage):
            self._command = Command(message.action, viewer.number, message.sequence)
            self._key_pressed |= message.key
            if message.key:
                self._wake.set()
            return
        if len(self._commands) >= WAITING_COMMANDS:
            raise UserError("too many commands at once; the last one was ignored")
        self._commands.append((viewer, message))
        self._wake.set()

    async def run(self) -> None:
        """Drive until `close`."""
        while not self._closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._seconds_left())
            self._wake.clear()
            while self._commands:
                await self._handle(*self._commands.popleft())
            if not self._closed:
                await self._tick()

    async def close(self) -> None:
        """End the drive, and its recording."""
        self._closed = True
        self._wake.set()
        recording = await self._computed(self._engine.stop_recording)
        if recording is not None:
            await asyncio.to_thread(recording.join)

    def _seconds_left(self) -> float | None:
        """Until something is to be done without another message; None if nothing is."""
        if self._previewing and self.viewers and (self._paused or self._time_for_preview()):
            return 0.0
        return None if self._paused or not self.viewers else max(0.0, self._due - time.monotonic())

    def _time_for_preview(self) -> bool:
        return self._due - time.monotonic() > 2 * self._slice_seconds

    async def _tick(self) -> None:
        """Take a step if it is due; else replace the newest one after a key, or continue the preview."""
        driving = not self._paused and bool(self.viewers)
        key_pressed, self._key_pressed = self._key_pressed, False
        try:
            if driving and time.monotonic() >= self._due:
                await self._step()
            elif driving and key_pressed and self._mode == "human" and self._engine.simulation.can_amend:
                self._show(await self._computed(self._engine.amend, self._command))
            elif self._previewing and self.viewers and (self._paused or self._time_for_preview()):
                await self._advance_preview()
        except Exception as error:
            traceback.print_exc()
            self._paused = True
            self._broadcast_status(f"the drive stopped after an error ({type(error).__name__}); press Enter to restart")

    async def _step(self) -> None:
        period = 1 / (self._engine.scenario.moments.hz * self._pace)
        self._due = max(self._due + period, time.monotonic())
        command = self._command
        if self._mode == "recorded":
            action = self._engine.simulation.recorded_action
            if action is None:
                self._mode, self._paused = "human", True
                self._broadcast_status("the recording ends here")
                return
            command = Command(action)
        elif self._mode == "policy":
            command = Command(await self._computed(self._engine.policy_action))
        self._show(await self._computed(self._engine.advance, command))
        if self._engine.simulation.ended:
            self._paused = True
            self._broadcast_status("the drive has ended; press Enter to start again")

    async def _advance_preview(self) -> None:
        started = time.monotonic()
        shown = await self._computed(self._engine.advance_preview)
        self._slice_seconds = time.monotonic() - started
        if shown is not None and self._driver is not None:
            self._driver.show(shown)

    async def _handle(self, viewer: Viewer, message: Message) -> None:
        try:
            await self._execute(viewer, message)
        except UserError as error:
            viewer.post({"type": "error", "message": str(error)})
        except Exception as error:
            traceback.print_exc()
            self._broadcast_status()
            viewer.post({"type": "error", "message": f"the server failed ({type(error).__name__}); see its terminal"})
        else:
            self._broadcast_status()

    async def _execute(self, viewer: Viewer, message: Message) -> None:
        engine = self._engine
        self._notice = ""
        match message:
            case Hello():
                viewer.show(await self._computed(engine.show))
            case Pause(on=on):
                self._set_paused(on)
            case SingleStep():
                self._set_paused(True)
                if not engine.simulation.ended:
                    await self._step()
            case Reset(moment=index):
                await self._restart(engine.start, index)
            case Rewind(step=step):
                await self._restart(engine.rewind, step)
                self._set_paused(True)
            case Reseed(seed=seed):
                self._show(await self._computed(engine.reseed, seed))
            case Pace(factor=factor):
                self._pace = factor
            case Mode(mode=mode):
                if mode == "policy":
                    await self._computed(engine.policy_action)
                self._mode = mode
            case Record(on=on):
                await self._record(on)
            case Preview(on=on):
                self._previewing = on
                await self._computed(engine.preview, on)
            case Reference(on=on):
                self._show(await self._computed(engine.set_reference, on))
            case Choose(choice=choice):
                await self._restart(engine.choose, choice)
                self._set_paused(True)
            case Reveal():
                if engine.comparison is None:
                    raise UserError("there is no blind comparison to show results of")
                viewer.post({"type": "results", **engine.comparison.results()})

    async def _restart(self, change: Callable[[Any], bytes], argument: Any) -> None:
        self._command, self._mode = (
            STILL._replace(viewer=self._command.viewer, sequence=self._command.sequence),
            "human",
        )
        self._show(await self._computed(change, argument))
        self._due = time.monotonic() + 1 / (self._engine.scenario.moments.hz * self._pace)

    async def _record(self, on: bool) -> None:
        if not on:
            await self._computed(self._engine.stop_recording)
            return
        loop = asyncio.get_running_loop()

        def finished(recorded: Recorded) -> None:
            with suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(self._announce, recorded)

        self._recordings += 1
        name = f"drive-{time.strftime('%Y%m%d-%H%M%S')}-{self.name}-{self._recordings}"
        await self._computed(self._engine.start_recording, name, finished)

    def _announce(self, recorded: Recorded) -> None:
        if recorded.error is not None:
            self.broadcast({"type": "error", "message": recorded.error})
            return
        files = [str(path) for path in (recorded.folder, recorded.video, recorded.log)]
        self.broadcast({"type": "recorded", "frames": recorded.frames, "files": files})

    def _set_paused(self, on: bool) -> None:
        if self._paused and not on:
            self._due = time.monotonic()
        self._paused = on

    async def _computed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._compute, function, *arguments)

    def _show(self, images: bytes) -> None:
        for viewer in self.viewers:
            viewer.show(images)

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send a JSON message to all viewers."""
        for viewer in self.viewers:
            viewer.post(message)

    def _broadcast_status(self, notice: str | None = None) -> None:
        if notice is not None:
            self._notice = notice
        engine = self._engine
        status = {
            "type": "status", "paused": self._paused, "mode": self._mode, "pace": self._pace,
            "recording": engine.recording, "preview": self._previewing,
            "reference": engine.simulation.reference is not None,
            "can_compare": bool(engine.scenario.models) and engine.simulation.moment.road_state is not None,
            "seed": engine.seed, "moment": engine.moment_index, "viewers": len(self.viewers),
            "rounds": None if engine.comparison is None else engine.comparison.count, "notice": self._notice,
        }  # fmt: skip
        for viewer in self.viewers:
            viewer.post({**status, "driving": viewer is self._driver})
