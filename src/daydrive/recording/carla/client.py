"""The connection to a CARLA server; the state of its world is restored at the end."""

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
"""Role name of all actors spawned by daydrive."""

MAP_TIMEOUT = 120.0
"""Timeout in seconds for loading a map."""


def import_client() -> Any:
    """Import the module `carla`. Raises UserError with the install command if it is missing."""
    try:
        return importlib.import_module("carla")
    except ImportError as error:
        raise UserError(
            "recording from CARLA needs its Python client in the version of the server: pip install 'daydrive[carla]'"
        ) from error


@contextmanager
def server_errors(host: str, port: int) -> Iterator[None]:
    """Convert errors of the client to UserError."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise UserError(f"a request to the CARLA server at {host}:{port} failed ({reason})") from error


def connect(carla: Any, host: str, port: int, timeout: float) -> Any:
    """Connect to the server. Raises UserError if it does not respond within `timeout` seconds."""
    client = carla.Client(host, port)
    client.set_timeout(timeout)
    try:
        server = client.get_server_version()
    except RuntimeError as error:
        raise UserError(
            f"no CARLA server responds at {host}:{port} within {timeout:g} s; start one (./CarlaUE4.sh "
            "-RenderOffScreen) or set --host and --port"
        ) from error
    version = client.get_client_version()
    if version != server:
        print(
            f"The CARLA client has version {version}, the server {server}; install the client of the server's version.",
            file=sys.stderr,
        )
    return client


def town_of(world: Any) -> str:
    """The name of the loaded map, without its path."""
    return str(world.get_map().name).rsplit("/", 1)[-1]


def load_town(client: Any, town: str | None, timeout: float) -> Any:
    """Return the world with the map `town`, or the loaded map if None. Raises UserError for an unknown map."""
    world = client.get_world()
    if town is None or town == town_of(world):
        return world
    known = sorted(str(name).rsplit("/", 1)[-1] for name in client.get_available_maps())
    if town not in known:
        raise UserError(f"--town {town}: the server has no such map{did_you_mean(town, known)}")
    client.set_timeout(max(timeout, MAP_TIMEOUT))
    try:
        return client.load_world(town)
    finally:
        client.set_timeout(timeout)


def weathers(carla: Any) -> dict[str, Any]:
    """The weather presets of CARLA by name."""
    kind = carla.WeatherParameters
    return {name: value for name in sorted(dir(kind)) if isinstance(value := getattr(kind, name), kind)}


def clear_leftovers(world: Any) -> bool:
    """Destroy the actors left by a recording that was killed; return whether there were any."""
    leftovers = [actor for actor in world.get_actors() if actor.attributes.get("role_name") == ROLE]
    for actor in leftovers:
        with suppress(RuntimeError):
            actor.destroy()
    return bool(leftovers)


@contextmanager
def synchronous(world: Any, manager: Any, seconds: float, was_killed: bool) -> Iterator[None]:
    """Run the world in synchronous mode with ticks of `seconds`, and restore its settings and weather on exit.

    was_killed: an earlier recording was killed and left the world in synchronous mode; asynchronous mode is restored.
    """
    before, weather, settings = world.get_settings(), world.get_weather(), world.get_settings()
    if was_killed:
        before.synchronous_mode, before.fixed_delta_seconds = False, None
    settings.synchronous_mode, settings.fixed_delta_seconds = True, seconds
    try:
        world.apply_settings(settings)
        manager.set_synchronous_mode(True)
        yield
    finally:
        with signals_ignored():
            for restore in (
                lambda: world.apply_settings(before),
                lambda: manager.set_synchronous_mode(False),
                lambda: world.set_weather(weather),
            ):
                with suppress(RuntimeError):
                    restore()


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Ignore SIGINT and SIGTERM, so that the clean-up of the world is not interrupted."""
    with _signal_handlers({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}):
        yield


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: raise KeyboardInterrupt."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _signal_handlers({signal.SIGTERM: interrupt}):
        yield


@contextmanager
def _signal_handlers(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
