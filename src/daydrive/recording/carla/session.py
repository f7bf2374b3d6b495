"""Recording sessions on a CARLA server in synchronous mode.

The action of a frame is the control applied from that frame to the next. After a tick, `get_control` returns the
control applied in it, so each image is yielded only after the next one.
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
from daydrive.recording.carla.actors import managed_actors
from daydrive.recording.recorder import PlannedDrive
from daydrive.types import ACTION_HIGH, ACTION_LOW, Frame, Image

MAX_TICK = 0.1
"""Longest tick in seconds that CARLA's physics allows (10 substeps of 10 ms)."""

WARM_UP = 2.0
"""Seconds driven before recording starts: the car drops to the road and the camera's exposure settles."""

MAX_CONSECUTIVE_LOST = 5
"""Consecutive missing images that abort the recording."""

VALUES = ("speed", "x", "y", "z", "yaw", "pitch", "roll", "yaw_rate", "world_frame")
"""speed: m/s along the heading; x, y, z: m on CARLA's map; yaw (positive to the right), pitch, roll: degrees; yaw_rate:
rad/s, positive to the right; world_frame: CARLA's frame number."""

RANDOM = "random"


@dataclass(frozen=True)
class CarlaSettings:
    """Settings of a recording.

    town, weather: None for the current ones; the weather 'random' samples a preset for each drive. driver: one of
    `DRIVERS`. image_size: (H, W). fov: horizontal field of view in degrees. timeout: of the server, in seconds.
    """

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

    def as_json(self, town: str) -> dict[str, Any]:
        """The settings that determine the recording, as JSON values."""
        settings = {name: value for name, value in asdict(self).items() if "port" not in name}
        del settings["host"], settings["timeout"]
        return {"env": "carla", **settings, "town": town, "image_size": list(self.image_size)}


class _Sample(NamedTuple):
    image: Image
    time: float
    values: dict[str, float]


@dataclass
class Session:
    """A world in synchronous mode. drive_note: metadata of the current drive."""

    carla: Any
    server: Any
    world: Any
    manager: Any
    settings: CarlaSettings
    ticks: int
    town: str
    drive_note: dict[str, Any] = field(default_factory=dict)

    def planned_drives(self, drives: int) -> list[PlannedDrive]:
        """Plan `drives` drives, each independent of the drives before it, as far as the server is deterministic."""
        length = self.settings.frames
        return [
            PlannedDrive(f"drive_{k:05d}", length, partial(self.drive, k), lambda: self.drive_note)
            for k in range(drives)
        ]

    def drive(self, number: int) -> Iterator[Frame]:
        """Spawn the car and the traffic, and yield the frames of drive `number`."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, number])
        seed = int(rng.integers(1 << 31))
        self.manager.set_random_device_seed(seed)
        self.world.set_pedestrians_seed(seed)
        weather = self._set_weather(rng)
        with managed_actors(self.carla, self.server, self.world) as actors:
            points = self.world.get_map().get_spawn_points()
            spawn_points = [points[k] for k in rng.permutation(len(points)).tolist()]
            car, first = actors.car(settings.vehicle, spawn_points)
            port = self.manager.get_port()
            vehicles = actors.vehicles(settings.vehicles, spawn_points[first + 1 :] + spawn_points[:first], port, rng)
            walkers = actors.walkers(settings.walkers, rng)
            mount = self.carla.Transform(self.carla.Location(**camera.MOUNT))
            blueprint = camera.blueprint(actors.library, settings.image_size, settings.fov)
            sensor = actors.try_spawn(blueprint, mount, car)
            if sensor is None:
                raise UserError("the server could not attach a camera to the car")
            images = camera.Camera(sensor)
            act = drivers.start(settings.driver, car, port, spawn_points, rng)
            self.drive_note = {
                "town": self.town, "weather": weather, "drive": number, "vehicles": vehicles, "walkers": walkers,
                "lost": 0, "ticks_per_frame": self.ticks,
            }  # fmt: skip
            yield from self._frames(car, images, act)

    def _frames(self, car: Any, images: camera.Camera, act: Any) -> Iterator[Frame]:
        frame = None
        for _ in range(math.ceil(WARM_UP / MAX_TICK)):
            frame = self._tick(act, frame)
        pending: _Sample | None = None
        controls: list[Any] = []
        start_time = recorded = missing = 0.0
        while recorded < self.settings.frames:
            for _ in range(self.ticks):
                frame = self._tick(act, frame)
                controls.append(car.get_control())
            image = images.get(frame or 0)
            if image is None:
                missing += 1
                self.drive_note["lost"] += 1
                if missing >= MAX_CONSECUTIVE_LOST:
                    raise UserError(
                        f"the camera sent no image for {MAX_CONSECUTIVE_LOST} consecutive frames up to {frame}"
                    )
                continue
            missing = 0
            snapshot = self.world.get_snapshot()
            if pending is None:
                start_time = snapshot.timestamp.elapsed_seconds
            else:
                yield Frame(pending.image, mean_action(controls), pending.time, pending.values)
                recorded += 1
            time = snapshot.timestamp.elapsed_seconds - start_time
            pending = _Sample(image, time, state(snapshot.find(car.id), frame or 0))
            controls = []

    def _tick(self, act: Any, before: int | None) -> int:
        """Advance the world by one frame. Raises UserError if another client ticks it too."""
        act()
        frame = int(self.world.tick())
        if before is not None and frame != before + 1:
            raise UserError(
                f"the world advanced from frame {before} to {frame} in one tick: another client ticks it too; stop it"
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
    """Open a session on the server; its world is restored on exit, including after an error, Ctrl-C or SIGTERM.

    Raises UserError if the client is not installed, no server responds, or a setting is not available there.
    """
    carla = client.import_client()
    presets = client.weathers(carla)
    if settings.weather not in (None, RANDOM, *presets):
        hint = did_you_mean(settings.weather or "", [RANDOM, *presets])
        raise UserError(f"--weather {settings.weather}: no such weather{hint}")
    drivers.check_driver(settings.driver)
    with client.server_errors(settings.host, settings.port), client.sigterm_as_interrupt():
        server = client.connect(carla, settings.host, settings.port, settings.timeout)
        world = client.load_town(server, settings.town, settings.timeout)
        was_killed = client.clear_leftovers(world)
        manager = server.get_trafficmanager(settings.traffic_port)
        ticks = max(1, math.ceil(1.0 / settings.hz / MAX_TICK - 1e-9))
        with client.synchronous(world, manager, 1.0 / settings.hz / ticks, was_killed):
            yield Session(carla, server, world, manager, settings, ticks, client.town_of(world))


def mean_action(controls: list[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Combine the controls of one or more ticks into an action, float32 (4,): means, and the last gear."""
    values = np.array([[c.steer, c.throttle, c.brake, -1.0 if c.reverse else 1.0] for c in controls])
    action = values.mean(axis=0)
    action[3] = values[-1, 3]
    return np.clip(action, ACTION_LOW, ACTION_HIGH).astype(np.float32)


def state(actor: Any, frame: int) -> dict[str, float]:
    """Return `VALUES` of a snapshot of the car. Raises UserError if the car no longer exists."""
    if actor is None:
        raise UserError(f"the recording car no longer exists in frame {frame}")
    transform, velocity, angular = actor.get_transform(), actor.get_velocity(), actor.get_angular_velocity()
    forward, location, rotation = transform.get_forward_vector(), transform.location, transform.rotation
    speed = velocity.x * forward.x + velocity.y * forward.y + velocity.z * forward.z
    values = (
        speed, location.x, location.y, location.z, rotation.yaw, rotation.pitch, rotation.roll,
        math.radians(angular.z), frame,
    )  # fmt: skip
    return dict(zip(VALUES, map(float, values), strict=True))
