"""Who drives: CARLA's traffic manager, or one of the agents that come with the simulator."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from daydrive.errors import UserError

AGENTS = {"behavior": ("behavior_agent", "BehaviorAgent"), "basic": ("basic_agent", "BasicAgent")}
DRIVERS = ("autopilot", *AGENTS)


def check_driver(name: str) -> None:
    """UserError where the agent can't be imported."""
    if name in AGENTS:
        _agent(name)


def start(name: str, vehicle: Any, port: int, places: Sequence[Any], rng: np.random.Generator) -> Callable[[], None]:
    """Puts the driver in; the result is called before each tick. places: where an agent may be sent."""
    if name not in AGENTS:
        vehicle.set_autopilot(True, port)
        return lambda: None
    random.seed(int(rng.integers(1 << 31)))  # the agents draw from here
    agent = _agent(name)(vehicle)

    def send() -> None:
        agent.set_destination(places[int(rng.integers(len(places)))].location)

    def act() -> None:
        if agent.done():
            send()
        vehicle.apply_control(agent.run_step())

    send()
    return act


def _agent(name: str) -> Any:
    module, kind = AGENTS[name]
    try:
        return getattr(importlib.import_module(f"agents.navigation.{module}"), kind)
    except ImportError as error:
        raise UserError(
            f"--driver {name} needs the agents that come with the simulator ({error}): add its PythonAPI/carla to "
            "PYTHONPATH, or give --driver autopilot"
        ) from error
