"""A fake of CARLA's client 0.9.13 to 0.9.16 and its server, modeled on their reference documentation.

It reproduces the behavior that the recorder relies on: in synchronous mode the world advances only by ticks of
`fixed_delta_seconds`; controls set before a tick are applied in it, and `get_control` returns those of the last tick;
the traffic manager sets its controls during the tick; sensors call back from another thread for every frame; spawning
at an occupied position returns None; a destroyed actor, or a server that does not respond, raises RuntimeError.
"""

from __future__ import annotations

import copy
import fnmatch
import math
import queue
import threading
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

NO_ANSWER = "time-out of 20000ms while waiting for the simulator, make sure the simulator is ready and connected to {}"
DESTROYED = "trying to operate on a destroyed actor; an actor's function was called, but the actor is already destroyed"
TOWNS = ("Town01", "Town02", "Town10HD_Opt")
SPEED = 8.0


class Vector:
    def __init__(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
        self.x, self.y, self.z = x, y, z


class Rotation:
    def __init__(self, pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0) -> None:
        self.pitch, self.yaw, self.roll = pitch, yaw, roll


class Transform:
    def __init__(self, location: Vector | None = None, rotation: Rotation | None = None) -> None:
        self.location, self.rotation = location or Vector(), rotation or Rotation()

    def get_forward_vector(self) -> Vector:
        yaw = math.radians(self.rotation.yaw)
        return Vector(math.cos(yaw), math.sin(yaw))


class VehicleControl:
    def __init__(self, throttle: float = 0.0, steer: float = 0.0, brake: float = 0.0, reverse: bool = False) -> None:
        self.throttle, self.steer, self.brake, self.reverse = throttle, steer, brake, reverse


class WeatherParameters:
    def __init__(self, name: str) -> None:
        self.name = name


for preset in ("ClearNoon", "HardRainNoon", "WetSunset"):
    setattr(WeatherParameters, preset, WeatherParameters(preset))


class Attribute:
    def __init__(self, value: str) -> None:
        self.value = value

    def __int__(self) -> int:
        return int(self.value)


class Blueprint:
    def __init__(self, name: str, **attributes: str) -> None:
        self.id, self.attributes = name, {"role_name": "default", **attributes}

    def has_attribute(self, name: str) -> bool:
        return name in self.attributes

    def get_attribute(self, name: str) -> Attribute:
        return Attribute(self.attributes[name])

    def set_attribute(self, name: str, value: str) -> None:
        if name not in self.attributes:
            raise IndexError(f"blueprint '{self.id}' does not contain attribute '{name}'")
        assert isinstance(value, str), "attributes are strings"
        self.attributes[name] = value


class Library(list):
    def find(self, name: str) -> Blueprint:
        for blueprint in self:
            if blueprint.id == name:
                return blueprint
        raise IndexError(f"blueprint '{name}' not found")

    def filter(self, pattern: str) -> Library:
        return Library(found for found in self if fnmatch.fnmatch(found.id, pattern))


class Actor:
    def __init__(self, server: Server, blueprint: Blueprint, transform: Transform, parent: Actor | None) -> None:
        self.server, self.parent, self.id = server, parent, 100 + len(server.actors)
        self.type_id, self.attributes = blueprint.id, dict(blueprint.attributes)
        self.transform, self.alive = copy.deepcopy(transform), True
        server.actors.append(self)

    def _check(self) -> None:
        self.server.check()
        if not self.alive:
            raise RuntimeError(DESTROYED)

    def destroy(self) -> bool:
        self._check()
        self.alive = False
        return True


class Vehicle(Actor):
    control = VehicleControl()
    given: VehicleControl | None = None
    autopilot = False

    def set_autopilot(self, enabled: bool = True, tm_port: int = 8000) -> None:
        self._check()
        assert tm_port == self.server.manager.get_port()
        self.autopilot = enabled

    def apply_control(self, control: VehicleControl) -> None:
        self._check()
        self.given = control

    def get_control(self) -> VehicleControl:
        self._check()
        return copy.copy(self.control)

    def get_location(self) -> Vector:
        self._check()
        return self.transform.location

    def move(self, seconds: float) -> None:
        if self.autopilot and self.server.manager.synchronous:
            self.given = self.server.manager.decide(self)
        self.control = self.given or self.control
        speed = -SPEED if self.control.reverse else SPEED
        self.yaw_rate = 40.0 * self.control.steer * speed / SPEED
        self.transform.rotation.yaw += self.yaw_rate * seconds
        forward = self.transform.get_forward_vector()
        self.velocity = Vector(forward.x * speed, forward.y * speed)
        self.transform.location.x += self.velocity.x * seconds
        self.transform.location.y += self.velocity.y * seconds


class Camera(Actor):
    callback: Callable[[Any], None] | None = None

    def listen(self, callback: Callable[[Any], None]) -> None:
        self._check()
        self.callback = callback

    def stop(self) -> None:
        self._check()
        self.callback = None


class Walker(Actor):
    pass


class Controller(Actor):
    target: Vector | None = None
    started = False

    def start(self) -> None:
        self._check()
        assert self.server.frame > self.born, "a controller is started after a tick"
        self.started = True

    def stop(self) -> None:
        self._check()
        self.started = False

    def go_to_location(self, destination: Vector) -> None:
        assert self.started
        self.target = destination

    def set_max_speed(self, speed: float) -> None:
        assert self.started and speed > 0


class TrafficManager:
    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port, self.synchronous, self.seed = server, port, False, 0

    def get_port(self) -> int:
        return self.port

    def set_synchronous_mode(self, on: bool) -> None:
        self.server.check()
        self.synchronous = on

    def set_random_device_seed(self, seed: int) -> None:
        self.seed = seed

    def decide(self, vehicle: Vehicle) -> VehicleControl:
        """Depends on the seed and the number of calls."""
        vehicle.calls = getattr(vehicle, "calls", 0) + 1
        t = vehicle.calls * 0.1 + self.seed % 7
        return VehicleControl(0.5 + 0.25 * math.cos(t), 0.5 * math.sin(t), 0.0, self.server.reverse)


class World:
    def __init__(self, server: Server) -> None:
        self.server = server

    def __getattr__(self, name: str) -> Any:
        self.server.check()
        return getattr(self.server, f"world_{name}")


class Server:
    """The state of the simulator, and the faults injected by tests.

    lost: frames without an image. on_tick: called with the number of previous ticks before each tick. jump: additional
    frames per tick, from another client. applied: control of each vehicle by frame.
    """

    def __init__(self, spawn_points: int = 12) -> None:
        self.running, self.frame, self.elapsed, self.ticks = True, 1000, 50.0, 0
        self.town, self.weather = "Town10HD_Opt", WeatherParameters("before")
        self.settings = SimpleNamespace(
            synchronous_mode=False, fixed_delta_seconds=None, no_rendering_mode=False, max_substeps=10
        )
        self.points = [Transform(Vector(20.0 * k, 5.0, 0.3), Rotation(yaw=10.0 * k)) for k in range(spawn_points)]
        self.actors: list[Actor] = []
        self.manager = TrafficManager(self, 8000)
        self.lost: set[int] = set()
        self.blocked = False
        self.reverse = False
        self.jump = 0
        self.on_tick: Callable[[int], None] = lambda ticks: None
        self.applied: dict[int, dict[int, VehicleControl]] = {}
        self.deltas: list[float] = []
        self.walks = 0
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()
        threading.Thread(target=self._call_back, daemon=True).start()

    def check(self) -> None:
        if not self.running:
            raise RuntimeError(NO_ANSWER.format("localhost:2000"))

    def alive(self, kind: type[Actor] = Actor) -> list[Any]:
        return [actor for actor in self.actors if actor.alive and isinstance(actor, kind)]

    def world_get_settings(self) -> Any:
        return copy.copy(self.settings)

    def world_apply_settings(self, settings: Any, seconds: float = 0.0) -> int:
        if settings.fixed_delta_seconds:
            assert settings.fixed_delta_seconds <= 0.1 + 1e-9, "substeps of 10 ms, 10 of them"
        self.settings = copy.copy(settings)
        return self.frame

    def world_get_weather(self) -> WeatherParameters:
        return self.weather

    def world_set_weather(self, weather: WeatherParameters) -> None:
        self.weather = weather

    def world_set_pedestrians_seed(self, seed: int) -> None:
        self.walks = seed % 5

    def world_get_random_location_from_navigation(self) -> Vector | None:
        self.walks += 1
        return Vector(float(self.walks), -30.0, 1.0)

    def world_get_map(self) -> Any:
        return SimpleNamespace(name=f"Carla/Maps/{self.town}", get_spawn_points=lambda: copy.deepcopy(self.points))

    def world_get_actors(self) -> list[Actor]:
        return self.alive()

    def world_get_blueprint_library(self) -> Library:
        camera = dict.fromkeys(("image_size_x", "image_size_y", "fov", "sensor_tick"), "0")
        return Library(
            [
                Blueprint("vehicle.tesla.model3", number_of_wheels="4"),
                Blueprint("vehicle.audi.tt", number_of_wheels="4"),
                Blueprint("vehicle.bh.crossbike", number_of_wheels="2"),
                Blueprint("walker.pedestrian.0001"),
                Blueprint("controller.ai.walker"),
                Blueprint("sensor.camera.rgb", **camera),
            ]
        )

    def world_try_spawn_actor(self, blueprint: Blueprint, transform: Transform, attach_to: Any = None) -> Actor | None:
        kinds = {"vehicle": Vehicle, "sensor": Camera, "walker": Walker, "controller": Controller}
        kind = kinds[blueprint.id.split(".")[0]]
        at = transform.location
        occupied = [v.transform.location for v in self.alive(Vehicle)]
        if kind is Vehicle and (self.blocked or any(math.hypot(at.x - v.x, at.y - v.y) < 3.0 for v in occupied)):
            return None
        actor = kind(self, blueprint, transform, attach_to)
        actor.born = self.frame
        return actor

    def world_tick(self, seconds: float = 0.0) -> int:
        assert self.settings.synchronous_mode
        self.on_tick(self.ticks)
        self.check()
        self.ticks += 1
        self.frame += 1 + self.jump
        self.elapsed += self.settings.fixed_delta_seconds
        self.deltas.append(self.settings.fixed_delta_seconds)
        for vehicle in self.alive(Vehicle):
            vehicle.move(self.settings.fixed_delta_seconds)
        self.applied[self.frame] = {v.id: copy.copy(v.control) for v in self.alive(Vehicle)}
        for camera in self.alive(Camera):
            if camera.callback is not None and self.frame not in self.lost:
                self._calls.put(partial(self._show, camera, self._image(camera)))
        return self.frame

    def world_get_snapshot(self) -> Any:
        def snapshot(vehicle: Vehicle) -> Any:
            transform, velocity, angular_velocity = (
                copy.deepcopy(vehicle.transform),
                vehicle.velocity,
                Vector(z=vehicle.yaw_rate),
            )
            return SimpleNamespace(
                get_transform=lambda: transform,
                get_velocity=lambda: velocity,
                get_angular_velocity=lambda: angular_velocity,
            )

        def find(number: int) -> Any:
            return next((snapshot(vehicle) for vehicle in self.alive(Vehicle) if vehicle.id == number), None)

        return SimpleNamespace(frame=self.frame, timestamp=SimpleNamespace(elapsed_seconds=self.elapsed), find=find)

    def _image(self, camera: Camera) -> Any:
        """Red encodes the frame (in steps of 16), blue is 200."""
        height, width = (int(camera.attributes[f"image_size_{axis}"]) for axis in "yx")
        pixels = np.zeros((height, width, 4), np.uint8)
        pixels[..., 0], pixels[..., 2], pixels[..., 3] = 200, self.frame % 16 * 16, 255
        return SimpleNamespace(frame=self.frame, height=height, width=width, raw_data=memoryview(pixels.tobytes()))

    def _show(self, camera: Camera, image: Any) -> None:
        callback = camera.callback
        if callback is not None:
            callback(image)

    def _call_back(self) -> None:
        while True:
            self._calls.get()()


def client_of(server: Server) -> ModuleType:
    """The module that `import carla` returns."""

    class Client:
        def __init__(self, host: str, port: int) -> None:
            self.host = host

        def set_timeout(self, seconds: float) -> None:
            assert seconds > 0

        def get_server_version(self) -> str:
            server.check()
            return "0.9.15"

        def get_client_version(self) -> str:
            return "0.9.15"

        def get_world(self) -> World:
            server.check()
            return World(server)

        def get_available_maps(self) -> list[str]:
            return [f"/Game/Carla/Maps/{town}" for town in TOWNS]

        def load_world(self, town: str) -> World:
            server.town, server.actors = town, []
            return World(server)

        def get_trafficmanager(self, port: int = 8000) -> TrafficManager:
            return server.manager

        def apply_batch_sync(self, commands: list[Any], do_tick: bool = False) -> list[Any]:
            server.check()
            for command in commands:
                command.actor.alive = False
            return commands

    module = ModuleType("carla")
    for kind in (Client, Transform, Rotation, VehicleControl, WeatherParameters):
        setattr(module, kind.__name__, kind)
    module.Location = Vector
    module.command = SimpleNamespace(DestroyActor=lambda actor: SimpleNamespace(actor=actor))
    return module
