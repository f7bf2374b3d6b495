"""The recording car and the traffic around it; all spawned actors are destroyed at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from daydrive.errors import UserError
from daydrive.recording.carla.client import ROLE, signals_ignored, town_of

WALKING_SPEED = 1.4
"""m/s"""


class Actors:
    """Spawns actors in a world and keeps track of them."""

    def __init__(self, carla: Any, server: Any, world: Any) -> None:
        self.carla, self.server, self.world = carla, server, world
        self.library = world.get_blueprint_library()
        self.spawned: list[Any] = []

    def try_spawn(self, blueprint: Any, transform: Any, parent: Any = None) -> Any:
        """Spawn an actor; None if the location is occupied."""
        if blueprint.has_attribute("role_name"):
            blueprint.set_attribute("role_name", ROLE)
        actor = self.world.try_spawn_actor(blueprint, transform, attach_to=parent)
        if actor is not None:
            self.spawned.append(actor)
        return actor

    def car(self, name: str, spawn_points: Sequence[Any]) -> tuple[Any, int]:
        """Spawn the recording car at the first free spawn point; return the car and the index of the spawn point."""
        try:
            blueprint = self.library.find(name)
        except (IndexError, RuntimeError) as error:
            raise UserError(f"--vehicle {name}: the server has no such blueprint") from error
        for index, spawn_point in enumerate(spawn_points):
            actor = self.try_spawn(blueprint, spawn_point)
            if actor is not None:
                return actor, index
        raise UserError(f"none of the {len(spawn_points)} spawn points of {town_of(self.world)} is free")

    def vehicles(self, count: int, spawn_points: Sequence[Any], port: int, rng: np.random.Generator) -> int:
        """Spawn up to `count` car_blueprints controlled by the traffic manager; return the number spawned."""
        kinds = sorted(self.library.filter("vehicle.*"), key=lambda blueprint: str(blueprint.id))
        car_blueprints = [kind for kind in kinds if int(kind.get_attribute("number_of_wheels")) == 4]
        spawned = 0
        for spawn_point in spawn_points:
            if spawned == count:
                break
            actor = self.try_spawn(car_blueprints[int(rng.integers(len(car_blueprints)))], spawn_point)
            if actor is not None:
                actor.set_autopilot(True, port)
                spawned += 1
        return spawned

    def walkers(self, count: int, rng: np.random.Generator) -> int:
        """Spawn up to `count` walkers with a destination; return the number spawned. Ticks the world once."""
        kinds = sorted(self.library.filter("walker.pedestrian.*"), key=lambda blueprint: str(blueprint.id))
        control = self.library.find("controller.ai.walker")
        controllers = []
        for _ in range(count):
            location = self.world.get_random_location_from_navigation()
            if location is None:
                break
            walker = self.try_spawn(kinds[int(rng.integers(len(kinds)))], self.carla.Transform(location))
            if walker is not None:
                controllers.append(self.try_spawn(control, self.carla.Transform(), walker))
        self.world.tick()
        for controller in (found for found in controllers if found is not None):
            controller.start()
            target = self.world.get_random_location_from_navigation()
            if target is not None:
                controller.go_to_location(target)
            controller.set_max_speed(WALKING_SPEED)
        return len(controllers)

    def destroy(self) -> None:
        """Destroy all spawned actors, last spawned first."""
        actors, self.spawned = self.spawned[::-1], []
        with suppress(RuntimeError):
            for actor in actors:
                if hasattr(actor, "stop"):  # sensors and controllers
                    actor.stop()
        self.server.apply_batch_sync([self.carla.command.DestroyActor(actor) for actor in actors], False)


@contextmanager
def managed_actors(carla: Any, server: Any, world: Any) -> Iterator[Actors]:
    """The actors of one drive, destroyed on exit."""
    actors = Actors(carla, server, world)
    try:
        yield actors
    finally:
        with signals_ignored(), suppress(RuntimeError):
            actors.destroy()
            world.tick()
