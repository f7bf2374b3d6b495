"""Models, servers and pages for tests of `daydrive drive`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from websockets.sync.client import ClientConnection, connect

from daydrive.drive.access import Access, bind
from daydrive.drive.moments import RoadMoments
from daydrive.drive.protocol import MAX_MESSAGE, VERSION, unpack
from daydrive.drive.scenario import Scenario
from daydrive.drive.server import create_app
from daydrive.drive.sessions import Sessions
from daydrive.drive.simulators import Action
from daydrive.models import WorldModel, build_world_model
from helpers.architectures import config_of

SIZE = (64, 64)
PATIENCE = 60.0
"""Seconds to wait for a message on a busy machine."""

ACTION: dict[str, Any] = {
    "type": "action", "sequence": 3, "steering": -0.5, "throttle": 0.25, "brake": 0.0, "gear": 1,
}  # fmt: skip
"""A valid message."""

INVALID: dict[str, tuple[Any, str]] = {
    "not json": ("{", "JSON"),
    "empty": ("", "JSON"),
    "a number": ("3", "valid"),
    "a list": ("[]", "valid"),
    "deep": ("[" * 2000, "JSON"),
    "binary": (b"\x00\xff", "not binary"),
    "too long": (json.dumps({**ACTION, "x": "a" * MAX_MESSAGE}), "at most 4096"),
    "no type": ({"sequence": 1}, "type"),
    "unknown type": ({"type": "fly"}, "does not match any of the expected tags"),
    "type of another type": ({"type": 7}, "tag"),
    "missing values": ({"type": "action", "sequence": 1}, "steering: Field required"),
    "unknown key": ({**ACTION, "speed": 3}, "speed: Extra inputs are not permitted"),
    "steering beyond its range": ({**ACTION, "steering": 1.01}, "steering: .*less than or equal to 1"),
    "negative throttle": ({**ACTION, "throttle": -0.1}, "throttle: .*greater than or equal to 0"),
    "infinite": (json.dumps(ACTION).replace("-0.5", "Infinity"), "steering: .*finite"),
    "not a number": (json.dumps(ACTION).replace("-0.5", "NaN"), "steering: .*finite"),
    "huge": (json.dumps(ACTION).replace("-0.5", "1e999"), "steering: .*finite"),
    "text for a number": ({**ACTION, "steering": "0.5"}, "steering: .*valid number"),
    "gear 2": ({**ACTION, "gear": 2}, "gear: "),
    "negative sequence": ({**ACTION, "sequence": -1}, "sequence: "),
    "negative step": ({"type": "rewind", "step": -5}, "step: "),
    "step is a fraction": ({"type": "rewind", "step": 1.5}, "step: "),
    "pace 0": ({"type": "pace", "factor": 0}, "factor: "),
    "unknown mode": ({"type": "mode", "mode": "robot"}, "mode: "),
    "unknown side": ({"type": "choose", "choice": "middle"}, "choice: "),
    "huge seed": ({"type": "seed", "seed": 2**40}, "seed: "),
    "session is a path": ({"type": "hello", "version": 1, "session": "../x"}, "session: "),
    "null": ({"type": "pause", "on": None}, "on: "),
}
"""Messages that are not valid, by a description, with a part of the answer."""


def action(steering: float = 0.0, throttle: float = 0.5, brake: float = 0.0, gear: float = 1.0) -> Action:
    return np.array([steering, throttle, brake, gear], dtype=np.float32)


def random_model(architecture: str) -> WorldModel:
    """A model whose frames depend on actions and, if it samples, on the seed."""
    torch.manual_seed(0)
    model = build_world_model(config_of(architecture, SIZE)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8 if architecture == "rssm" else 0.2)
    return model


def road_scenario(output: Path) -> Scenario:
    """The road simulator alone."""
    return Scenario((), RoadMoments(SIZE, 1, 1), 1, output)


@contextmanager
def serving(scenario: Scenario, access: Access | None = None, limit: int = 2, seconds: float = 60.0) -> Iterator[str]:
    """The address `127.0.0.1:port` of a server that runs in a thread. seconds: until an unwatched session closes."""
    listener = bind("127.0.0.1", 0)
    app = create_app(Sessions(scenario, limit, seconds), access or Access())
    config = uvicorn.Config(app, log_level="error", ws_max_size=4 * MAX_MESSAGE, ws_per_message_deflate=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def connected(url: str, **options: Any) -> ClientConnection:
    return connect(f"ws://{url}", compression=None, open_timeout=PATIENCE, close_timeout=1, **options).__enter__()


class Page:
    """A viewer that speaks the protocol. welcome, status: the newest such messages; header: of the newest frame.
    thumbnails: images of the start moments by number."""

    def __init__(self, address: str, session: str | None = None, **options: Any) -> None:
        self.socket = connected(f"{address}/drive", **options)
        self.welcome: dict[str, Any] = {}
        self.status: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.images: list[bytes] = []
        self.thumbnails: dict[int, str] = {}
        self._sequence = 0
        self.send(type="hello", version=VERSION, session=session)

    def __enter__(self) -> Page:
        self.wait(lambda _: bool(self.status) and bool(self.header))
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def act(self, steering: float = 0.0, throttle: float = 0.0, brake: float = 0.0, *, key: bool = False) -> int:
        """Send an action and return its sequence number."""
        self._sequence += 1
        values = {"steering": steering, "throttle": throttle, "brake": brake, "gear": 1}
        self.send(type="action", sequence=self._sequence, key=key, **values)
        return self._sequence

    def next(self) -> dict[str, Any]:
        """The next message; of a binary one, its header."""
        data = self.socket.recv(timeout=PATIENCE)
        if isinstance(data, bytes):
            message, images = unpack(data)
            if message["type"] == "frame":
                self.header, self.images = message, images
            return message
        message = json.loads(data)
        if message["type"] in ("welcome", "status"):
            setattr(self, message["type"], message)
        if message["type"] == "welcome":
            self.thumbnails |= {k: m["image"] for k, m in enumerate(message["moments"]) if m["image"] is not None}
        if message["type"] == "thumbnail":
            self.thumbnails[message["moment"]] = message["image"]
        return message

    def wait(self, found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message for which `found` is true."""
        while not found(message := self.next()):
            pass
        return message

    def answer(self, **message: Any) -> dict[str, Any]:
        """Send a command and return the status that follows it, or the error."""
        self.send(**message)
        return self.wait(lambda answer: answer["type"] in ("status", "error"))
