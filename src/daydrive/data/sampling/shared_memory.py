"""Pictures on their way from a worker to the training: decoded into shared memory, and that used again.

A fresh piece of memory costs a page fault for every 4 KiB, together half as long as decoding the pictures takes.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daydrive.types import Batch, Clip

HEADER = 64
"""Bytes before the pictures; the first says whether the slot is lent."""

KEPT = 4
"""Slots of a worker: one that it fills, two that wait, one that the training holds. What is held longer than that costs
fresh memory, no more."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of mallopt(3)."""

Images = npt.NDArray[np.uint8]


@dataclass(eq=False)
class Buffer:
    """uint8 (HEADER + size,) in shared memory; number: among those of its worker."""

    number: int
    memory: torch.Tensor
    known: bool = False
    """Whether the training was given the memory already and has to be told the number only."""

    @classmethod
    def new(cls, number: int, size: int) -> Buffer:
        return cls(number, torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(HEADER + size)))

    @property
    def lent(self) -> bool:
        return bool(self.memory.numpy()[0])

    def pixels(self, shape: tuple[int, ...]) -> Images:
        return _pixels(self.memory.numpy(), shape)


@dataclass
class BufferPool:
    """Those of one worker; only what the training has let go of is lent again."""

    _kept: list[Buffer] = field(default_factory=list)
    _made: int = 0

    def lend(self, size: int) -> Buffer:
        """One for at least `size` bytes."""
        self._kept = [slot for slot in self._kept if slot.lent or len(slot.memory) >= HEADER + size]
        slot = next((slot for slot in self._kept if not slot.lent), None)
        if slot is None:
            slot = Buffer.new(self._made, size)
            self._made += 1
            self._kept += [slot] if len(self._kept) < KEPT else []
        slot.memory.numpy()[0] = 1
        return slot


@dataclass(frozen=True)
class SharedBatch:
    """A batch whose pictures, uint8 `shape` (N, H, W, 3), lie in a slot. In the process that it is sent to it is the
    batch itself, and the slot is free when the last of its pictures is gone there.

    Sending a tensor opens a connection between the processes; a slot is sent once, small ones are sent as numbers.
    sender: the loader and the worker that it comes from.
    """

    batch: Batch
    slot: Buffer
    shape: tuple[int, ...]
    sender: tuple[str, int]

    def __reduce__(self) -> tuple[Any, ...]:
        memory = None if self.slot.known else self.slot.memory
        self.slot.known = True
        weights = None if self.batch.weights is None else self.batch.weights.numpy()
        rest = (self.batch.actions.numpy(), self.batch.clips, self.batch.samples, weights)
        return _received, (self.sender, self.slot.number, memory, self.shape, *rest)


_received_slots: dict[str, dict[tuple[int, int], torch.Tensor]] = {}
"""Of each loader of this process, by worker and number."""


def forget(loader: str) -> None:
    """What it was sent is unmapped when the batches in it are gone."""
    _received_slots.pop(loader, None)


def keep_memory() -> None:
    """Let this process keep what it frees for what it asks for next; reading a batch is three times as fast then."""
    with suppress(OSError, AttributeError):  # glibc alone has this
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**30), (M_ARENA_MAX, 1)):
            mallopt(parameter, value)


def as_images(pixels: Images, clips: int) -> torch.Tensor:
    """uint8 (B * T, H, W, 3) → a view (B, T, 3, H, W) of the same memory, channels last as convolutions like it."""
    return torch.from_numpy(pixels).unflatten(0, (clips, -1)).movedim(-1, 2)


def _received(
    sender: tuple[str, int],
    number: int,
    memory: torch.Tensor | None,
    shape: tuple[int, ...],
    actions: npt.NDArray[np.float32],
    clips: list[Clip],
    samples: list[int],
    weights: npt.NDArray[np.float32] | None,
) -> Batch:
    loader, worker = sender
    slots = _received_slots.setdefault(loader, {})
    if memory is not None:
        slots[worker, number] = memory
    mapped = slots[worker, number].numpy()
    pixels = _pixels(mapped, shape)
    weakref.finalize(pixels, _let_go, mapped).atexit = False
    images = as_images(pixels, len(actions))
    return Batch(
        images, torch.from_numpy(actions), clips, samples, None if weights is None else torch.from_numpy(weights)
    )


def _pixels(memory: Images, shape: tuple[int, ...]) -> Images:
    return memory[HEADER : HEADER + math.prod(shape)].reshape(shape)


def _let_go(memory: Images) -> None:
    memory[0] = 0
