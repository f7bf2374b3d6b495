"""Transfer of images from loader workers to training through reused buffers in shared memory.

Newly allocated memory causes a page fault per 4 KiB, which in total takes half as long as decoding the images.
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
"""Bytes before the images; the first one states whether the buffer is in use."""

BUFFERS_PER_WORKER = 4
"""One being filled, two waiting, one held by the training. If batches are held longer, new memory is allocated."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt(3)."""

Images = npt.NDArray[np.uint8]


@dataclass(eq=False)
class Buffer:
    """A buffer, uint8 (HEADER + size,), in shared memory. number: of the buffer within its worker."""

    number: int
    memory: torch.Tensor
    sent: bool = False
    """Whether the training process already has the memory, so that sending the number suffices."""

    @classmethod
    def new(cls, number: int, size: int) -> Buffer:
        return cls(number, torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(HEADER + size)))

    @property
    def in_use(self) -> bool:
        return bool(self.memory.numpy()[0])

    def pixels(self, shape: tuple[int, ...]) -> Images:
        return _pixels(self.memory.numpy(), shape)


@dataclass
class BufferPool:
    """The buffers of one worker; a buffer is reused once the training has released it."""

    _buffers: list[Buffer] = field(default_factory=list)
    _created: int = 0

    def acquire(self, size: int) -> Buffer:
        """Return a free buffer for at least `size` bytes."""
        large = [buffer for buffer in self._buffers if len(buffer.memory) >= HEADER + size]
        self._buffers = [buffer for buffer in self._buffers if buffer in large or buffer.in_use]
        buffer = next((buffer for buffer in large if not buffer.in_use), None)
        if buffer is None:
            buffer = Buffer.new(self._created, size)
            self._created += 1
            self._buffers += [buffer] if len(self._buffers) < BUFFERS_PER_WORKER else []
        buffer.memory.numpy()[0] = 1
        return buffer


@dataclass(frozen=True)
class SharedBatch:
    """A batch whose images, uint8 `shape` (N, H, W, 3), are in a shared buffer. Unpickling it in the receiving process
    yields the `Batch`; the buffer is released when its images are garbage-collected there.

    Sending a tensor opens a connection between the processes, so each buffer is sent only once and small tensors are
    sent as NumPy arrays. sender: loader and worker.
    """

    batch: Batch
    buffer: Buffer
    shape: tuple[int, ...]
    sender: tuple[str, int]

    def __reduce__(self) -> tuple[Any, ...]:
        memory = None if self.buffer.sent else self.buffer.memory
        self.buffer.sent = True
        weights = None if self.batch.weights is None else self.batch.weights.numpy()
        rest = (self.batch.actions.numpy(), self.batch.clips, self.batch.samples, weights)
        return _received, (self.sender, self.buffer.number, memory, self.shape, *rest)


_received_buffers: dict[str, dict[tuple[int, int], torch.Tensor]] = {}
"""Buffers received by each loader of this process, by worker and number."""


def release_buffers(loader: str) -> None:
    """Drop the buffers of a loader; each is unmapped once its batch is gone."""
    _received_buffers.pop(loader, None)


def retain_freed_memory() -> None:
    """Configure malloc to reuse freed memory within the process, which makes reading a batch three times as fast."""
    with suppress(OSError, AttributeError):  # only glibc has mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**30), (M_ARENA_MAX, 1)):
            mallopt(parameter, value)


def as_images(pixels: Images, clips: int) -> torch.Tensor:
    """uint8 (B * T, H, W, 3) → a view (B, T, 3, H, W) of the same memory, in the channels-last layout."""
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
    buffers = _received_buffers.setdefault(loader, {})
    if memory is not None:
        buffers[worker, number] = memory
    mapped = buffers[worker, number].numpy()
    pixels = _pixels(mapped, shape)
    weakref.finalize(pixels, _release, mapped).atexit = False
    images = as_images(pixels, len(actions))
    return Batch(
        images, torch.from_numpy(actions), clips, samples, None if weights is None else torch.from_numpy(weights)
    )


def _pixels(memory: Images, shape: tuple[int, ...]) -> Images:
    return memory[HEADER : HEADER + math.prod(shape)].reshape(shape)


def _release(memory: Images) -> None:
    memory[0] = 0
