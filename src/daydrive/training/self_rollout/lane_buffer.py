"""The stored states of the lanes of one process."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from daydrive.distributed import DistributedContext
from daydrive.models import State

SHOWN = 2
"""Newest frames stored with each state: the beginning of a critic's window."""

EMPTY = -2
"""Visit number of a lane that holds no rollout."""


class LaneBuffer:
    """Detached states of the lanes with numbers rank, rank + world_size, …, on the device of the training.

    An architecture's state may have parts that only exist after a step, such as the motion that led to it; those are
    not stored, so that states before and after the first step have the same tensors.
    """

    def __init__(self, lanes: int, dist: DistributedContext, initial: State, frame: Tensor) -> None:
        """initial: the state of one clip before its first step. frame: (3, H, W), of its size and device."""
        self._dist = dist
        own = len(range(dist.rank, lanes, dist.world_size))
        leaves, self._structure = pytree.tree_flatten(initial)
        self._exists = [leaf is not None for leaf in leaves]
        examples = [*(leaf[0] for leaf in leaves if leaf is not None), frame.expand(SHOWN, -1, -1, -1)]
        self._tensors = [torch.zeros(own, *part.shape, device=part.device) for part in examples]
        self._visits = torch.full((own,), EMPTY)
        self._ages = torch.zeros(own, dtype=torch.long)

    def holds(self, lane: int, visit: int) -> bool:
        """Whether the stored rollout of a lane was last continued by its visit number `visit`."""
        return bool(self._visits[lane // self._dist.world_size] == visit)

    def put(self, lanes: list[int], visits: list[int], ages: Tensor, state: State, shown: Tensor) -> None:
        """Store the states of lanes after these visits.

        ages: (B,), frames since the rollouts started. shown: (B, SHOWN, 3, H, W), the newest frames, the newest last.
        """
        rows = self._rows(lanes)
        for stored, new in zip(self._tensors, [*self._stored_parts(state), shown], strict=True):
            stored[rows.to(stored.device)] = new.detach().to(stored.dtype)
        self._visits[rows], self._ages[rows] = torch.tensor(visits), ages.cpu()

    def take(self, lanes: list[int]) -> tuple[State, Tensor, Tensor]:
        """The states, newest frames and ages of lanes, as given to `put`."""
        rows = self._rows(lanes)
        *parts, shown = (stored[rows.to(stored.device)] for stored in self._tensors)
        available = iter(parts)
        state = pytree.tree_unflatten([next(available) if e else None for e in self._exists], self._structure)
        return state, shown, self._ages[rows].to(shown.device)

    def mean_age(self) -> float:
        """Of the lanes of this process that hold a rollout."""
        held = self._ages[self._visits != EMPTY]
        return float(held.double().mean()) if len(held) else 0.0

    def oldest(self) -> int:
        return int(self._ages.max())

    def contents(self) -> dict[str, Tensor]:
        """The states of the lanes of all processes by name, in the order of their numbers. Every process has to call
        it."""
        own = {"visits": self._visits, "ages": self._ages, **{f"{i}": t.cpu() for i, t in enumerate(self._tensors)}}
        return {name: torch.stack(self._dist.gather(list(tensor))) for name, tensor in own.items()}

    def load(self, contents: dict[str, Tensor]) -> None:
        """Restore what `contents` returned, with any number of processes. Lanes of another number or shape restart
        instead."""
        own = {name: tensor[self._dist.rank :: self._dist.world_size] for name, tensor in contents.items()}
        tensors = [own[name] for name in sorted(own.keys() - {"visits", "ages"}, key=int)]
        if [t.shape for t in tensors] != [t.shape for t in self._tensors]:
            return
        for stored, saved in zip(
            [self._visits, self._ages, *self._tensors], [own["visits"], own["ages"], *tensors], strict=True
        ):
            stored.copy_(saved)

    def _rows(self, lanes: list[int]) -> Tensor:
        return torch.tensor([lane // self._dist.world_size for lane in lanes])

    def _stored_parts(self, state: State) -> list[Tensor]:
        parts = self._structure.flatten_up_to(state)
        return [part for part, exists in zip(parts, self._exists, strict=True) if exists]
