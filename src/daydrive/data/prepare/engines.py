"""Engines that read drives and write shards: local processes, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from daydrive.data.prepare import shards
from daydrive.errors import UserError, did_you_mean
from daydrive.locations import Location

ENGINES = ("local", "ray")


class Engine(Protocol):
    def write_shards(self, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        """Write all shards, each atomically. The first error stops the others."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes on this machine."""

    workers: int

    def write_shards(self, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        shards.write_shards(jobs, self.workers, progress)


def build_engine(name: str, workers: int, ray_address: str | None, target: Location) -> Engine:
    """Build an engine by name. Raises UserError for an unknown name or a missing package."""
    if name not in ENGINES:
        raise UserError(f"--engine {name}: no such engine{did_you_mean(name, ENGINES)}")
    if name == "ray":
        from daydrive.data.prepare.ray_engine import RayEngine

        return RayEngine.create(workers, ray_address, target)
    if ray_address is not None:
        raise UserError("--ray-address requires --engine ray")
    return LocalEngine(workers)
