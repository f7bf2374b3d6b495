"""Means of what was seen since the last log line."""

from __future__ import annotations

from torch import Tensor

from daydrive.distributed import DistributedContext


class Meter:
    """Sums over clips stay on the device until asked for; a checkpoint keeps them, so that a resumed run logs the
    same."""

    def __init__(self, state: dict[str, float] | None = None) -> None:
        state = dict(state or {})
        self._count = state.pop("count", 0.0)
        self._sums: dict[str, Tensor | float] = dict(state)

    def add(self, values: dict[str, Tensor]) -> None:
        """values: (B,) each, of the same clips."""
        self._count += len(next(iter(values.values())))
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double().sum()

    def take(self, dist: DistributedContext) -> dict[str, float]:
        """The means over all processes' clips, and a fresh start."""
        sums = self.state(dist)
        count = sums.pop("count")
        self._count, self._sums = 0.0, {}
        return {name: total / count for name, total in sums.items()}

    def state(self, dist: DistributedContext) -> dict[str, float]:
        """Of all processes together."""
        return dist.sum({"count": self._count, **{name: float(total) for name, total in self._sums.items()}})
