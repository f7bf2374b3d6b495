"""Batches without end, from worker processes or this one, in an order that a position fixes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from daydrive.data import sampler
from daydrive.data.clips import ClipIndex, fixed_clips, read_clips
from daydrive.data.store import Store
from daydrive.errors import UserError
from daydrive.types import Batch

__all__ = ["ClipLoader", "fixed_clips"]


class ClipLoader:
    """Batches of a split from `position` on, forever; each iteration begins at `position` again.

    batch_size: clips a batch on this rank; with `world` ranks they share the same `world * batch_size` clips a step.
    sequence_length, frame_skip: see `ClipIndex`. clip_length: length of the clips of a batch, by its position, at most
    `sequence_length` (for unrolls that grow); it has to be picklable. position: batches consumed already.
    The batches are the same for any number of workers. UserError for a split without clips or fewer than a batch.
    """

    def __init__(
        self,
        store_path: str | Path,
        split: str,
        *,
        batch_size: int,
        sequence_length: int,
        frame_skip: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
        position: int = 0,
        clip_length: Callable[[int], int] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        store = Store.open(store_path)
        index = ClipIndex(store, split, sequence_length, frame_skip)
        self.clips = len(index)
        self.batches_per_epoch = sampler.batches_per_epoch(batch_size * world, self.clips)
        batches = _Batches(store, index, batch_size, seed, clip_length, rank, world)
        several = num_workers > 0
        self._loader = DataLoader(
            batches,
            batch_size=None,
            sampler=_Positions(position),
            collate_fn=_unchanged,
            generator=torch.Generator(),  # else an iterator draws from the global one, and a resumed run differs
            num_workers=num_workers,
            pin_memory=pin_memory and torch.cuda.is_available(),
            worker_init_fn=_start_worker if several else None,
            multiprocessing_context=_forkserver() if several else None,
            persistent_workers=several,
        )

    def __iter__(self) -> Iterator[Batch]:
        for item in self._loader:
            if isinstance(item, UserError):
                raise item
            yield item


class _Batches(Dataset[Batch | UserError]):
    """Position → batch. A UserError is handed over as a value, so that it crosses from a worker unchanged."""

    def __init__(
        self,
        store: Store,
        index: ClipIndex,
        batch_size: int,
        seed: int,
        clip_length: Callable[[int], int] | None,
        rank: int,
        world: int,
    ) -> None:
        self.store, self.index, self.batch_size, self.seed = store, index, batch_size, seed
        self.clip_length, self.rank, self.world = clip_length, rank, world

    def __getitem__(self, position: int) -> Batch | UserError:
        everyone = sampler.batch_indices(self.seed, position, self.batch_size * self.world, len(self.index))
        length = self.index.sequence_length if self.clip_length is None else self.clip_length(position)
        mine = sampler.shard(everyone, self.rank, self.world)
        try:
            return read_clips(self.store, [self.index.clip(i, length) for i in mine])
        except UserError as error:
            return error


class _Positions:
    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)


def _unchanged(item: Any) -> Any:
    return item


def _forkserver() -> Any:
    """Lance does not survive a fork; a server that has loaded this module, torch included, starts workers fast."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["daydrive.data.loader"])
    return context


def _start_worker(worker: int) -> None:
    os.environ.setdefault("LANCE_CPU_THREADS", "1")
    os.environ.setdefault("LANCE_IO_THREADS", "2")
    torch.set_num_threads(1)
