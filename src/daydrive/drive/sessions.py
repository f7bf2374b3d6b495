"""All sessions of a server: opened for pages, closed when nobody watches."""

from __future__ import annotations

import asyncio
import base64
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from daydrive.data.images import encode
from daydrive.drive.engine import JPEG_QUALITY, STILL, DriveEngine
from daydrive.drive.scenario import Scenario
from daydrive.drive.session import DriveSession
from daydrive.drive.viewers import Connection, Viewer
from daydrive.errors import UserError

MAX_VIEWERS = 32
"""Viewers of one session."""
UNWATCHED_SECONDS = 60.0
"""Time after which a session without viewers is closed; a page that is loaded again finds its drive until then."""


class Sessions:
    """limit: number of sessions that can be open at the same time; they share one computing thread."""

    def __init__(self, scenario: Scenario, limit: int, unwatched_seconds: float = UNWATCHED_SECONDS) -> None:
        self._scenario, self._limit, self._unwatched_seconds = scenario, limit, unwatched_seconds
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="drive")
        self._open: dict[str, tuple[DriveSession, asyncio.Task[None]]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._thumbnails: list[str | None] = [None] * len(scenario.moments.names)
        self._draw_thread = ThreadPoolExecutor(1, thread_name_prefix="thumbnails")
        self._drawing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def join(self, name: str | None, connection: Connection) -> tuple[DriveSession, Viewer]:
        """Add a viewer to a session. name: None for a new session.

        Raises UserError if there is no such session, if it has too many viewers, or if there are too many sessions.
        """
        if self._drawing is None:
            self._drawing = asyncio.create_task(self._draw_thumbnails())
        async with self._lock:
            session = await self._create() if name is None else self._find(name)
        if len(session.viewers) >= MAX_VIEWERS:
            raise UserError(f"session {session.name} has {MAX_VIEWERS} viewers, the largest number")
        if session.name in self._timers:
            self._timers.pop(session.name).cancel()
        viewer = Viewer(connection, session.next_number())
        session.add_viewer(viewer)
        return session, viewer

    def part(self, session: DriveSession, viewer: Viewer) -> None:
        """Remove a viewer; its session is closed a while after the last one."""
        session.remove_viewer(viewer)
        if not session.viewers and session.name in self._open:
            loop = asyncio.get_running_loop()
            self._timers[session.name] = loop.call_later(self._unwatched_seconds, self._close_later, session.name)

    async def close(self) -> None:
        """Close all sessions and end their recordings."""
        if self._drawing is not None:
            self._drawing.cancel()
        self._draw_thread.shutdown(wait=False, cancel_futures=True)
        for name in list(self._open):
            await self._close(name)
        await asyncio.gather(*self._closing)
        self._compute.shutdown()

    def _find(self, name: str) -> DriveSession:
        if name not in self._open:
            raise UserError(f"there is no session {name}; it may have been closed")
        return self._open[name][0]

    async def _create(self) -> DriveSession:
        if len(self._open) >= self._limit:
            unwatched = next(iter(self._timers), None)
            if unwatched is None:
                names = ", ".join(self._open)
                raise UserError(f"{self._limit} sessions are open, the largest number; watch one of them: {names}")
            await self._close(unwatched)
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(self._compute, self._prepared_engine)
        session = DriveSession(secrets.token_hex(3), engine, self._thumbnails, self._compute)
        self._open[session.name] = session, loop.create_task(session.run())
        return session

    def _prepared_engine(self) -> DriveEngine:
        """An engine at its first moment; its first step, which is slow, has been taken."""
        engine = DriveEngine(self._scenario)
        engine.start(0)
        engine.advance(STILL)
        engine.start(0)
        return engine

    async def _draw_thumbnails(self) -> None:
        """Draw the moments in another thread while the first one is driven already."""
        for index, name in enumerate(self._scenario.moments.names):
            with suppress(UserError):  # the store's image is damaged
                drawn = await asyncio.get_running_loop().run_in_executor(self._draw_thread, self._thumbnail, name)
                self._thumbnails[index] = drawn
                for session, _ in self._open.values():
                    session.broadcast({"type": "thumbnail", "moment": index, "image": drawn})

    def _thumbnail(self, name: str) -> str:
        jpeg = encode(self._scenario.moments.thumbnail(name), JPEG_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

    def _close_later(self, name: str) -> None:
        task = asyncio.get_running_loop().create_task(self._close(name))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, name: str) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()
        session, task = self._open.pop(name)
        await session.close()
        with suppress(asyncio.CancelledError):
            await task
