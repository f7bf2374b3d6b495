"""Action logs: the actions of a drive since its moment, with a hash of every frame, as lines of JSON.

    {"format": "daydrive action log", "version": 1, "moment": …, "seed": 0, "steps": 120, "driven": …, …}
    {"step": 1, "action": [0.0, 0.6, 0.0, 1.0], "frame": "8f1c0a…"}
    {"step": 2, "action": [0.1, 0.6, 0.0, 1.0], "seed": 7, "frame": "77e20b…"}

`seed` in a line applies from this step on. The same checkpoint on the same kind of machine gives the same frames to the
byte; elsewhere rounding may differ.
"""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import numpy as np

from daydrive.drive.moments import Moments
from daydrive.drive.simulation import Path, Simulation
from daydrive.drive.simulators import Simulator
from daydrive.errors import UserError
from daydrive.types import ACTION_HIGH, ACTION_LOW
from daydrive.version import __version__

FORMAT, VERSION = "daydrive action log", 1


class ActionLog(NamedTuple):
    """header: its first line; path: the drive."""

    header: dict[str, Any]
    path: Path


class Replayed(NamedTuple):
    """steps: that were computed; first_difference: the first step whose frame differs, None if all are equal."""

    steps: int
    first_difference: int | None


def action_log(path: Path, driven: dict[str, Any]) -> str:
    """The text of the log. driven: entries that identify what was driven and where its moments are from."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "daydrive": __version__,
        "moment": path.moment,
        "seed": path.seeds[0],
        "steps": len(path.actions),
        "driven": driven,
    }
    lines: list[dict[str, Any]] = [header]
    for number, (action, frame) in enumerate(zip(path.actions, path.hashes, strict=True)):
        seed = {"seed": path.seeds[number]} if number and number in path.seeds else {}
        lines.append({"step": number + 1, "action": action.tolist(), **seed, "frame": frame})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_action_log(file: FilePath) -> ActionLog:
    """Raises UserError with the line where it is not an action log."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the action log {file} cannot be read: {error}") from None
    number = 0
    try:
        header = json.loads(lines[0])
        if header["format"] != FORMAT or header["version"] != VERSION:
            raise UserError(f"{file}:1: this version of daydrive reads only '{FORMAT}', version {VERSION}")
        path = Path(str(header["moment"]), {0: int(header["seed"])}, [], [])
        for number, text in enumerate(lines[1:], 1):
            line = json.loads(text)
            action = np.array(line["action"], dtype=np.float32)
            if action.shape != (4,) or not ((action >= ACTION_LOW) & (action <= ACTION_HIGH)).all():
                raise ValueError(f"{line['action']} is not an action")
            if line["step"] != number:
                raise ValueError(f"step {line['step']} follows step {number - 1}")
            if "seed" in line:
                path.seeds[number - 1] = int(line["seed"])
            path.actions.append(action)
            path.hashes.append(str(line["frame"]))
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{file}:{number + 1}: not a line of an action log ({error or type(error).__name__})") from None
    return ActionLog(header, path)


def replay(path: Path, simulator: Simulator, moments: Moments) -> Replayed:
    """Take the steps of a drive again and compare every frame; stops at the first that differs."""
    simulation = Simulation([simulator])
    simulation.reset(moments.load(path.moment), path.seeds[0])
    for number, (action, frame) in enumerate(zip(path.actions, path.hashes, strict=True)):
        if number and number in path.seeds:
            simulation.reseed(path.seeds[number])
        simulation.advance(action)
        if simulation.path.hashes[-1] != frame:
            return Replayed(number + 1, number + 1)
    return Replayed(len(path.actions), None)
