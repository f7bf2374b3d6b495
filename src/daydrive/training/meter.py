"""Means of what was seen since the last log line."""

from __future__ import annotations

from torch import Tensor


class Meter:
    """Sums stay on the device until asked for; a checkpoint keeps them, so that a resumed run logs the same."""

    def __init__(self, state: dict[str, float] | None = None) -> None:
        state = dict(state or {})
        self._count = state.pop("count", 0.0)
        self._sums: dict[str, Tensor | float] = dict(state)

    def add(self, values: dict[str, Tensor], weight: float) -> None:
        self._count += weight
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + weight * value.double()

    def take(self) -> dict[str, float]:
        """The means, and a fresh start."""
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        self._count, self._sums = 0.0, {}
        return means

    def state(self) -> dict[str, float]:
        return {"count": self._count, **{name: float(total) for name, total in self._sums.items()}}
