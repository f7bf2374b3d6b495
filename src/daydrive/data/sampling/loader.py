"""Batches without end, from worker processes or this one, in an order that the number of a sample fixes."""

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
from daydrive.data.sampling.sample_order import SampleOrder
from daydrive.data.sampling.shared_memory import BufferPool, SharedBatch, forget, keep_memory
from daydrive.errors import UserError
from daydrive.types import Batch


class ClipLoader:
    """Batches of the clips of an index from sample `first_sample` on, forever; each iteration begins there again.

    batch_size: clips a batch on this rank; the `world` ranks share the same `world * batch_size` samples, and
    `accumulation` of these make a step. order: which clip a sample is; every clip once an epoch without it, in an order
    given by `seed`. first_sample: where a step begins.
    clip_length: frames of the clips of a batch, at most `sequence_length`, by the first sample of the batch on all
    ranks (for unrolls that grow); it has to be picklable.
    The batches are the same for any number of workers. UserError for fewer clips than a batch.
    """

    def __init__(
        self,
        index: ClipIndex,
        *,
        batch_size: int,
        num_workers: int = 0,
        pin_memory: bool = False,
        order: SampleOrder | None = None,
        seed: int = 0,
        first_sample: int = 0,
        accumulation: int = 1,
        clip_length: Callable[[int], int] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        order = order or SampleOrder.plain(len(index), seed)
        assert order.clip_count == len(index), "the order is that of other clips"
        together = batch_size * world
        if len(index) < together:
            ranks = f" on each of {world} ranks" if world > 1 else ""
            raise UserError(
                f"a batch of {batch_size} clips{ranks} is more than the {len(index)} clips there are in the split "
                f"'{index.split}' of {index.store.path}; lower training.batch_size"
            )
        several = num_workers > 0
        name = uuid.uuid4().hex
        weakref.finalize(self, forget, name)
        self._loader = DataLoader(
            _Batches(index, order, first_sample, batch_size, accumulation, clip_length, rank, world, name),
            batch_size=None,
            sampler=_Every(first_sample, together),
            collate_fn=_unchanged,
            generator=torch.Generator(),  # else an iterator draws from the global one, and a resumed run differs
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


_slots = BufferPool()
"""Of this process, where it is a worker."""


@dataclass(frozen=True)
class _Batches(Dataset[Batch | SharedBatch | UserError]):
    """First sample of all ranks' batch → this rank's batch. A UserError is handed over as a value, so that it crosses
    from a worker unchanged; a worker's batch lies in memory that it shares with the training."""

    index: ClipIndex
    order: SampleOrder
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
            slot = _slots.lend(math.prod(shape))
            batch = replace(read_clips(self.index.store, clips, slot.pixels), samples=samples, weights=weights)
            return SharedBatch(batch, slot, shape, (self.loader, worker.id))
        except UserError as error:
            return error

    def _weights(self, sample: int) -> torch.Tensor | None:
        """Those of the step that the sample lies in sum to `world`, so that averaging over the ranks makes it 1."""
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
    """Lance does not survive a fork; a server that has loaded this module, torch included, starts workers fast."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["daydrive.data.sampling.loader"])
    return context


def _start_worker(worker: int) -> None:
    end_with_parent()
    os.environ.setdefault("LANCE_CPU_THREADS", "1")
    os.environ.setdefault("LANCE_IO_THREADS", "2")
    torch.set_num_threads(1)
    keep_memory()
