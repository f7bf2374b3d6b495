"""Where drives are read and made into parts: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from daydrive.data.prepare import shards
from daydrive.errors import UserError, did_you_mean
from daydrive.locations import Location

ENGINES = ("local", "ray")


class Engine(Protocol):
    def write_parts(self, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        """Writes all parts, each whole or not at all. The first error ends the others' work."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    workers: int

    def write_parts(self, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        shards.write_parts(jobs, self.workers, progress)


def build_engine(name: str, workers: int, ray_address: str | None, target: Location) -> Engine:
    """UserError for another name, and where the package of an engine is missing."""
    if name not in ENGINES:
        raise UserError(f"--engine {name}: there is no such engine{did_you_mean(name, ENGINES)}")
    if name == "ray":
        from daydrive.data.prepare.ray_engine import RayEngine

        return RayEngine.joined(workers, ray_address, target)
    if ray_address is not None:
        raise UserError("--ray-address is for --engine ray")
    return LocalEngine(workers)
