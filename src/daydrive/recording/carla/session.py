"""Drives on a CARLA server in synchronous mode: a frame of ours is a frame of the world.

The command of a frame is what the vehicle was under from that frame to the next. After a tick `get_control` gives what
was applied in it; so a picture waits for the next one before it is handed out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from daydrive.errors import UserError, did_you_mean
from daydrive.recording.carla import camera, client, drivers
from daydrive.recording.carla.actors import stage
from daydrive.recording.takes import Take
from daydrive.types import ACTION_HIGH, ACTION_LOW, Frame, Image

SLOWEST_TICK = 0.1
"""seconds; CARLA's physics wants no longer ones (10 substeps of 10 ms)"""

WARM_UP = 2.0
"""seconds that are driven and not recorded: the car drops to the road, the camera's exposure settles"""

LOST_IN_A_ROW = 5
"""pictures that don't come; with so many the server is not well"""

VALUES = ("speed", "x", "y", "z", "yaw", "pitch", "roll", "yaw_rate", "world_frame")
"""m/s along the car's nose; m on CARLA's map; degrees, yaw positive to the right; rad/s, positive to the right"""

RANDOM = "random"


@dataclass(frozen=True)
class CarlaSettings:
    """town, weather: None for what is loaded; weather 'random' draws one for each drive. driver: of `DRIVERS`.
    image_size: (H, W). fov: degrees from left to right. timeout: seconds that the server may take to answer."""

    host: str = "localhost"
    port: int = 2000
    traffic_port: int = 8000
    town: str | None = None
    weather: str | None = None
    vehicles: int = 40
    walkers: int = 20
    vehicle: str = "vehicle.tesla.model3"
    driver: str = "autopilot"
    hz: float = 10.0
    seed: int = 0
    frames: int = 600
    image_size: tuple[int, int] = (256, 256)
    fov: float = 90.0
    timeout: float = 20.0

    def note(self, town: str) -> dict[str, Any]:
        """What makes the recording what it is, as JSON gives it back."""
        told = {name: value for name, value in asdict(self).items() if "port" not in name}
        del told["host"], told["timeout"]
        return {"env": "carla", **told, "town": town, "image_size": list(self.image_size)}


class _Moment(NamedTuple):
    image: Image
    time: float
    values: dict[str, float]


@dataclass
class Session:
    """A world that waits for our ticks."""

    carla: Any
    server: Any
    world: Any
    manager: Any
    settings: CarlaSettings
    ticks: int
    town: str
    told: dict[str, Any] = field(default_factory=dict)

    def takes(self, drives: int) -> list[Take]:
        """Drive k is the same whichever were driven before it, as far as the server repeats itself."""
        length = self.settings.frames
        return [Take(f"drive_{k:05d}", length, partial(self.drive, k), lambda: self.told) for k in range(drives)]

    def drive(self, number: int) -> Iterator[Frame]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, number])
        seed = int(rng.integers(1 << 31))
        self.manager.set_random_device_seed(seed)
        self.world.set_pedestrians_seed(seed)
        weather = self._set_weather(rng)
        with stage(self.carla, self.server, self.world) as actors:
            points = self.world.get_map().get_spawn_points()
            places = [points[k] for k in rng.permutation(len(points)).tolist()]
            car, first = actors.car(settings.vehicle, places)
            port = self.manager.get_port()
            vehicles = actors.vehicles(settings.vehicles, places[first + 1 :] + places[:first], port, rng)
            walkers = actors.walkers(settings.walkers, rng)
            mount = self.carla.Transform(self.carla.Location(**camera.MOUNT))
            made = camera.blueprint(actors.library, settings.image_size, settings.fov)
            sensor = actors.try_spawn(made, mount, car)
            if sensor is None:
                raise UserError("the server puts no camera on the car")
            images = camera.Camera(sensor)
            act = drivers.start(settings.driver, car, port, places, rng)
            self.told = {
                "town": self.town, "weather": weather, "drive": number, "vehicles": vehicles, "walkers": walkers,
                "lost": 0, "ticks_per_frame": self.ticks,
            }  # fmt: skip
            yield from self._frames(car, images, act)

    def _frames(self, car: Any, images: camera.Camera, act: Any) -> Iterator[Frame]:
        frame = None
        for _ in range(math.ceil(WARM_UP / SLOWEST_TICK)):
            frame = self._tick(act, frame)
        waiting: _Moment | None = None
        controls: list[Any] = []
        began = recorded = missing = 0.0
        while recorded < self.settings.frames:
            for _ in range(self.ticks):
                frame = self._tick(act, frame)
                controls.append(car.get_control())
            image = images.take(frame or 0)
            if image is None:
                missing += 1
                self.told["lost"] += 1
                if missing >= LOST_IN_A_ROW:
                    raise UserError(f"the camera sent no picture for {LOST_IN_A_ROW} frames in a row up to {frame}")
                continue
            missing = 0
            snapshot = self.world.get_snapshot()
            if waiting is None:
                began = snapshot.timestamp.elapsed_seconds
            else:
                yield Frame(waiting.image, combined(controls), waiting.time, waiting.values)
                recorded += 1
            time = snapshot.timestamp.elapsed_seconds - began
            waiting = _Moment(image, time, state(snapshot.find(car.id), frame or 0))
            controls = []

    def _tick(self, act: Any, before: int | None) -> int:
        """One frame of the world on; UserError where somebody else moved it too."""
        act()
        frame = int(self.world.tick())
        if before is not None and frame != before + 1:
            raise UserError(
                f"the world went from frame {before} to {frame} in one tick: another client ticks it too; end that one"
            )
        return frame

    def _set_weather(self, rng: np.random.Generator) -> str | None:
        presets = client.weathers(self.carla)
        name = self.settings.weather
        if name == RANDOM:
            name = list(presets)[int(rng.integers(len(presets)))]
        if name is not None:
            self.world.set_weather(presets[name])
        return name


@contextmanager
def connected(settings: CarlaSettings) -> Iterator[Session]:
    """A session on the server; afterwards its world is as it was, also after an error, Ctrl-C or SIGTERM.

    UserError where the client isn't installed, no server answers, or it doesn't have what is asked for.
    """
    carla = client.import_client()
    presets = client.weathers(carla)
    if settings.weather not in (None, RANDOM, *presets):
        hint = did_you_mean(settings.weather or "", [RANDOM, *presets])
        raise UserError(f"--weather {settings.weather}: there is no such weather{hint}")
    drivers.check_driver(settings.driver)
    with client.answering(settings.host, settings.port), client.ended_in_order():
        server = client.connect(carla, settings.host, settings.port, settings.timeout)
        world = client.load_town(server, settings.town, settings.timeout)
        was_killed = client.clear_leftovers(world)
        manager = server.get_trafficmanager(settings.traffic_port)
        ticks = max(1, math.ceil(1.0 / settings.hz / SLOWEST_TICK - 1e-9))
        with client.synchronous(world, manager, 1.0 / settings.hz / ticks, was_killed):
            yield Session(carla, server, world, manager, settings, ticks, client.town_of(world))


def combined(controls: list[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The action (4,) of one or more ticks: means, and the last gear."""
    values = np.array([[c.steer, c.throttle, c.brake, -1.0 if c.reverse else 1.0] for c in controls])
    action = values.mean(axis=0)
    action[3] = values[-1, 3]
    return np.clip(action, ACTION_LOW, ACTION_HIGH).astype(np.float32)


def state(actor: Any, frame: int) -> dict[str, float]:
    """`VALUES` of the car's snapshot; UserError where the car is gone."""
    if actor is None:
        raise UserError(f"the car that records is gone in frame {frame}")
    place, velocity, turning = actor.get_transform(), actor.get_velocity(), actor.get_angular_velocity()
    ahead, at, turn = place.get_forward_vector(), place.location, place.rotation
    speed = velocity.x * ahead.x + velocity.y * ahead.y + velocity.z * ahead.z
    told = (speed, at.x, at.y, at.z, turn.yaw, turn.pitch, turn.roll, math.radians(turning.z), frame)
    return dict(zip(VALUES, map(float, told), strict=True))
