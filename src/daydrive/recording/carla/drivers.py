"""Drivers: CARLA's traffic manager, or one of the agents distributed with the simulator."""

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
    """Raise UserError if the agent cannot be imported."""
    if name in AGENTS:
        _agent(name)


def start(
    name: str, vehicle: Any, port: int, destinations: Sequence[Any], rng: np.random.Generator
) -> Callable[[], None]:
    """Start the driver; return a function to call before each tick. destinations: transforms an agent may drive to."""
    if name not in AGENTS:
        vehicle.set_autopilot(True, port)
        return lambda: None
    random.seed(int(rng.integers(1 << 31)))  # the agents use the global generator
    agent = _agent(name)(vehicle)

    def set_destination() -> None:
        agent.set_destination(destinations[int(rng.integers(len(destinations)))].location)

    def act() -> None:
        if agent.done():
            set_destination()
        vehicle.apply_control(agent.run_step())

    set_destination()
    return act


def _agent(name: str) -> Any:
    module, kind = AGENTS[name]
    try:
        return getattr(importlib.import_module(f"agents.navigation.{module}"), kind)
    except ImportError as error:
        raise UserError(
            f"--driver {name} needs the agents distributed with the simulator ({error}): add its PythonAPI/carla to "
            "PYTHONPATH, or use --driver autopilot"
        ) from error
