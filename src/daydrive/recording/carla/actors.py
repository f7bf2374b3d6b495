"""The car that records and the traffic around it: what is spawned is destroyed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from daydrive.errors import UserError
from daydrive.recording.carla.client import ROLE, town_of, undisturbed

WALKING = 1.4
"""m/s"""


class Actors:
    """Spawns actors of a world and knows them."""

    def __init__(self, carla: Any, server: Any, world: Any) -> None:
        self.carla, self.server, self.world = carla, server, world
        self.library = world.get_blueprint_library()
        self.ours: list[Any] = []

    def try_spawn(self, blueprint: Any, place: Any, parent: Any = None) -> Any:
        """The actor, or None where something is in its way."""
        if blueprint.has_attribute("role_name"):
            blueprint.set_attribute("role_name", ROLE)
        actor = self.world.try_spawn_actor(blueprint, place, attach_to=parent)
        if actor is not None:
            self.ours.append(actor)
        return actor

    def car(self, name: str, places: Sequence[Any]) -> tuple[Any, int]:
        """The car that records, at the first of `places` that is free, and which one that is."""
        try:
            blueprint = self.library.find(name)
        except (IndexError, RuntimeError) as error:
            raise UserError(f"--vehicle {name}: the server has no such blueprint") from error
        for number, place in enumerate(places):
            actor = self.try_spawn(blueprint, place)
            if actor is not None:
                return actor, number
        raise UserError(f"none of the {len(places)} places to start from in {town_of(self.world)} is free")

    def vehicles(self, count: int, places: Sequence[Any], port: int, rng: np.random.Generator) -> int:
        """Up to `count` cars under the traffic manager's control; how many found a place."""
        kinds = sorted(self.library.filter("vehicle.*"), key=lambda blueprint: str(blueprint.id))
        cars = [kind for kind in kinds if int(kind.get_attribute("number_of_wheels")) == 4]
        spawned = 0
        for place in places:
            if spawned == count:
                break
            actor = self.try_spawn(cars[int(rng.integers(len(cars)))], place)
            if actor is not None:
                actor.set_autopilot(True, port)
                spawned += 1
        return spawned

    def walkers(self, count: int, rng: np.random.Generator) -> int:
        """Up to `count` walkers with a destination; how many found a place. Takes a tick of the world."""
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
            controller.set_max_speed(WALKING)
        return len(controllers)

    def destroy(self) -> None:
        """All of ours, the last first."""
        ours, self.ours = self.ours[::-1], []
        with suppress(RuntimeError):
            for actor in ours:
                if hasattr(actor, "stop"):  # sensors and controllers
                    actor.stop()
        self.server.apply_batch_sync([self.carla.command.DestroyActor(actor) for actor in ours], False)


@contextmanager
def stage(carla: Any, server: Any, world: Any) -> Iterator[Actors]:
    """Actors for one drive."""
    actors = Actors(carla, server, world)
    try:
        yield actors
    finally:
        with undisturbed(), suppress(RuntimeError):
            actors.destroy()
            world.tick()
