"""A connected page: what it gets, and how fast it may send.

Images wait in a queue of one: a viewer that is slower than the drive gets the newest one and misses others.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from typing import Any, Protocol

SEND_TIMEOUT = 10.0
"""Seconds after which a page that does not read is disconnected."""
WAITING_MESSAGES = 64
MESSAGES_PER_SECOND, BURST = 120.0, 240.0


class Connection(Protocol):
    async def send_text(self, data: str) -> None: ...

    async def send_bytes(self, data: bytes) -> None: ...


class Viewer:
    """number: identifies the viewer within its session."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.number = number
        self._connection = connection
        self._image = b""
        self._outbox: deque[str | None] = deque()
        """Texts, and None where the newest image is to be sent."""
        self._waiting = asyncio.Event()
        self._tokens, self._refilled = BURST, time.monotonic()

    def show(self, image: bytes) -> None:
        """Send a binary message, or a newer one in its place."""
        self._image = image
        if None not in self._outbox:
            self._outbox.append(None)
        self._waiting.set()

    def post(self, message: dict[str, Any]) -> None:
        """Send a JSON message. A viewer that leaves many unread gets no more."""
        if len(self._outbox) < WAITING_MESSAGES:
            self._outbox.append(json.dumps(message, separators=(",", ":")))
            self._waiting.set()

    def may_send(self) -> bool:
        """Count a received message; False for a page that floods the server."""
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._refilled) * MESSAGES_PER_SECOND)
        self._refilled = now
        self._tokens -= 1
        return self._tokens >= 0

    async def send(self) -> None:
        """Send everything that is posted and shown, until cancelled. Raises TimeoutError if the page does not read."""
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while self._outbox:
                text = self._outbox.popleft()
                async with asyncio.timeout(SEND_TIMEOUT):
                    if text is None:
                        await self._connection.send_bytes(self._image)
                    else:
                        await self._connection.send_text(text)
