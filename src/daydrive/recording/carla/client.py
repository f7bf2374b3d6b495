"""The connection to a CARLA server, and its world left as it was found."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from daydrive.errors import UserError, did_you_mean

ROLE = "daydrive"
"""role name of all actors that are ours"""

LOADING = 120.0
"""seconds that a map may take to load"""


def import_client() -> Any:
    """The module `carla`; UserError with the command that installs it."""
    try:
        return importlib.import_module("carla")
    except ImportError as error:
        raise UserError(
            "recording from CARLA needs its client, of the server's version: pip install 'daydrive[carla]'"
        ) from error


@contextmanager
def answering(host: str, port: int) -> Iterator[None]:
    """What the client raises, as one sentence."""
    try:
        yield
    except RuntimeError as error:
        said = str(error).strip().split("\n")[0].rstrip(".")
        raise UserError(f"the CARLA server at {host}:{port} doesn't do what is asked ({said})") from error


def connect(carla: Any, host: str, port: int, timeout: float) -> Any:
    """A client of the server; UserError where none answers within `timeout` seconds."""
    client = carla.Client(host, port)
    client.set_timeout(timeout)
    try:
        server = client.get_server_version()
    except RuntimeError as error:
        raise UserError(
            f"no CARLA server answers at {host}:{port} within {timeout:g} s; start one (./CarlaUE4.sh "
            "-RenderOffScreen) or give --host and --port"
        ) from error
    own = client.get_client_version()
    if own != server:
        print(f"CARLA's client is {own} and its server {server}; install the client of the server.", file=sys.stderr)
    return client


def town_of(world: Any) -> str:
    return str(world.get_map().name).rsplit("/", 1)[-1]


def load_town(client: Any, town: str | None, timeout: float) -> Any:
    """The world, with the map `town` or the one that is loaded; UserError where the server has no such map."""
    world = client.get_world()
    if town is None or town == town_of(world):
        return world
    known = sorted(str(name).rsplit("/", 1)[-1] for name in client.get_available_maps())
    if town not in known:
        raise UserError(f"--town {town}: the server has no such map{did_you_mean(town, known)}")
    client.set_timeout(max(timeout, LOADING))
    try:
        return client.load_world(town)
    finally:
        client.set_timeout(timeout)


def weathers(carla: Any) -> dict[str, Any]:
    """CARLA's presets by name."""
    kind = carla.WeatherParameters
    return {name: value for name in sorted(dir(kind)) if isinstance(value := getattr(kind, name), kind)}


def clear_leftovers(world: Any) -> bool:
    """Destroys our actors of a recording that was killed; whether there were any."""
    left = [actor for actor in world.get_actors() if actor.attributes.get("role_name") == ROLE]
    for actor in left:
        with suppress(RuntimeError):
            actor.destroy()
    return bool(left)


@contextmanager
def synchronous(world: Any, manager: Any, seconds: float, was_killed: bool) -> Iterator[None]:
    """The world waits for our ticks, `seconds` of its time each; afterwards settings and weather are as before.

    was_killed: a recording of ours was, and the world waits for it still; then it runs by itself afterwards.
    """
    before, weather, ours = world.get_settings(), world.get_weather(), world.get_settings()
    if was_killed:
        before.synchronous_mode, before.fixed_delta_seconds = False, None
    ours.synchronous_mode, ours.fixed_delta_seconds = True, seconds
    try:
        world.apply_settings(ours)
        manager.set_synchronous_mode(True)
        yield
    finally:
        with undisturbed():
            for undo in (
                lambda: world.apply_settings(before),
                lambda: manager.set_synchronous_mode(False),
                lambda: world.set_weather(weather),
            ):
                with suppress(RuntimeError):
                    undo()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for nothing here; what puts a world in order again is not to be ended half-way."""
    with _handled({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}):
        yield


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM ends what is done here as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled({signal.SIGTERM: end}):
        yield


@contextmanager
def _handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
