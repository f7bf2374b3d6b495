"""Endless batches of clips from worker processes, in a deterministic order given by the sample number."""

from __future__ import annotations

import itertools
import math
import os
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from daydrive.data.parent_watch import end_with_parent
from daydrive.data.sampling.clips import ClipIndex, read_clips
from daydrive.data.sampling.lanes import LaneOrder
from daydrive.data.sampling.sample_order import SampleOrder
from daydrive.data.sampling.shared_memory import BufferPool, SharedBatch, release_buffers, retain_freed_memory
from daydrive.errors import UserError
from daydrive.types import Batch


class ClipLoader:
    """Endless batches of the clips of an index from sample `first_sample` on; each iteration starts there again.

    batch_size: clips per batch on this rank; the `world` ranks share `world * batch_size` consecutive samples, and
    `accumulation` of these form a step. order: maps samples to clips; default: every clip once per epoch, shuffled by
    `seed`. first_sample: must be the start of a step.
    clip_length: maps the first sample of a batch over all ranks to the number of frames of its clips, at most
    `sequence_length` (for growing unrolls); it must be picklable.
    The batches do not depend on the number of workers. Raises UserError for fewer clips than a batch.
    """

    def __init__(
        self,
        index: ClipIndex,
        *,
        batch_size: int,
        num_workers: int = 0,
        pin_memory: bool = False,
        order: SampleOrder | LaneOrder | None = None,
        seed: int = 0,
        first_sample: int = 0,
        accumulation: int = 1,
        clip_length: Callable[[int], int] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        order = order or SampleOrder.plain(len(index), seed)
        assert order.clip_count == len(index), "the order belongs to other clips"
        together = batch_size * world
        if len(index) < together:
            ranks = f" on each of {world} ranks" if world > 1 else ""
            raise UserError(
                f"a batch of {batch_size} clips{ranks} is more than the {len(index)} clips in the split "
                f"'{index.split}' of {index.store.path}; lower training.batch_size"
            )
        several = num_workers > 0
        name = uuid.uuid4().hex
        weakref.finalize(self, release_buffers, name)
        self._loader = DataLoader(
            _Batches(index, order, first_sample, batch_size, accumulation, clip_length, rank, world, name),
            batch_size=None,
            sampler=_Every(first_sample, together),
            collate_fn=_unchanged,
            generator=torch.Generator(),  # the global one would make a resumed run differ
            num_workers=num_workers,
            pin_memory=pin_memory and torch.cuda.is_available(),
            worker_init_fn=_start_worker if several else None,
            multiprocessing_context=forkserver() if several else None,
            persistent_workers=several,
        )

    def __iter__(self) -> Iterator[Batch]:
        for item in self._loader:
            if isinstance(item, UserError):
                raise item
            yield item


_buffers = BufferPool()
"""The buffers of this process if it is a worker."""


@dataclass(frozen=True)
class _Batches(Dataset[Batch | SharedBatch | UserError]):
    """Maps the first sample of a batch over all ranks to this rank's batch. A UserError is returned as a value, so that
    it passes from a worker unchanged; workers return batches in shared memory."""

    index: ClipIndex
    order: SampleOrder | LaneOrder
    first_sample: int
    batch_size: int
    accumulation: int
    clip_length: Callable[[int], int] | None
    rank: int
    world: int
    loader: str

    def __getitem__(self, sample: int) -> Batch | SharedBatch | UserError:
        together = self.batch_size * self.world
        length = self.index.sequence_length if self.clip_length is None else self.clip_length(sample)
        mine = slice(self.rank, together, self.world)
        clips = [self.index.clip(int(number), length) for number in self.order.clips(sample, together)[mine]]
        samples, weights = list(range(sample, sample + together))[mine], self._weights(sample)
        try:
            worker = get_worker_info()
            if worker is None:
                return replace(read_clips(self.index.store, clips), samples=samples, weights=weights)
            shape = (len(clips) * length, *self.index.store.image_size, 3)
            buffer = _buffers.acquire(math.prod(shape))
            batch = replace(read_clips(self.index.store, clips, buffer.pixels), samples=samples, weights=weights)
            return SharedBatch(batch, buffer, shape, (self.loader, worker.id))
        except UserError as error:
            return error

    def _weights(self, sample: int) -> torch.Tensor | None:
        """Loss weights. Those of a whole step sum to `world`, so that their average over the ranks sums to 1."""
        together = self.batch_size * self.world
        step = together * self.accumulation
        before = (sample - self.first_sample) % step
        weights = self.order.weights(sample - before, step)
        if weights is None:
            return None
        share = weights[before + self.rank : before + together : self.world] / weights.sum(dtype=np.float64)
        return torch.from_numpy((share * self.world).astype(np.float32))


@dataclass(frozen=True)
class _Every:
    first: int
    step: int

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first, self.step)


def _unchanged(item: Any) -> Any:
    return item


def forkserver() -> Any:
    """The forkserver context: Lance is not fork-safe, and a server with this module preloaded starts workers fast."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["daydrive.data.sampling.loader"])
    return context


def _start_worker(worker: int) -> None:
    end_with_parent()
    os.environ.setdefault("LANCE_CPU_THREADS", "1")
    os.environ.setdefault("LANCE_IO_THREADS", "2")
    torch.set_num_threads(1)
    retain_freed_memory()
