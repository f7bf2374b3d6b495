"""Batches on the device: copied ahead of time, and how long the training waited for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

import torch

from daydrive.types import Batch


class Source(Protocol):
    def __iter__(self) -> Iterator[Batch]: ...


class DevicePrefetcher:
    """Iterates a loader without end; on a GPU the next batch is copied while the present one is computed.

    accumulation: batches of a step, over which the weights of its clips are to sum to 1. waited: seconds so far.
    """

    def __init__(self, source: Source, device: torch.device, accumulation: int) -> None:
        self._device = device
        self._accumulation = accumulation
        self._batches = iter(source)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ahead: Batch | None = None
        self.waited = 0.0

    def __next__(self) -> Batch:
        began = time.perf_counter()
        batch = self._fetch() if self._ahead is None else self._ahead
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
            for tensor in (batch.images, batch.actions, batch.weights):
                if tensor is not None:
                    tensor.record_stream(torch.cuda.current_stream(self._device))
            self._ahead = self._fetch()
        self.waited += time.perf_counter() - began
        return batch

    def _fetch(self) -> Batch:
        batch = next(self._batches)
        weights = batch.weights
        if weights is None:
            count = len(batch.images)
            weights = torch.full((count,), 1.0 / (count * self._accumulation))
        whole = Batch(batch.images, batch.actions, batch.clips, batch.samples, weights)
        if self._stream is None:
            return whole.to(self._device)
        with torch.cuda.stream(self._stream):
            return whole.to(self._device)
