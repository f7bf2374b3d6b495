"""Baselines for the data loader: the same clips in a torch DataLoader, with straightforward reading."""

from __future__ import annotations

import importlib.util
import io
import itertools
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from daydrive.data.sampling.clips import read_clips
from daydrive.data.sampling.loader import forkserver
from daydrive.data.store.store import Store
from daydrive.types import Clip

TICK = 0.01
"""Resolution of a process's CPU time, seconds."""

WARM_UP = 6
"""Batches; more than a loader has buffers for."""


class Effort(NamedTuple):
    """rounds: repetitions, of which the minimum counts; seconds: minimum CPU time of one round."""

    rounds: int
    seconds: float


THOROUGH = Effort(rounds=5, seconds=2.0)
QUICK = Effort(rounds=1, seconds=0.05)


class Meter:
    """Measures CPU seconds per batch of an endless loader with one worker process."""

    def __init__(self, loader: Any) -> None:
        before = set(psutil.Process().children(recursive=True))
        self._batches: Iterator[Any] = iter(loader)
        for _ in range(WARM_UP):
            next(self._batches)
        new = set(psutil.Process().children(recursive=True)) - before
        self._workers = [child for child in new if not _is_server(child)]
        self._count = 1

    def measure(self, seconds: float) -> float:
        """CPU seconds per batch; waits for prefetching workers to become idle before and after."""
        while True:
            began, here = self._idle(), time.process_time()
            for _ in range(self._count):
                next(self._batches)
            here = time.process_time() - here
            used = self._idle() - began + here
            if used >= seconds:
                return used / self._count
            self._count = max(self._count + 1, int(self._count * min(10.0, 1.2 * seconds / max(used, TICK))))

    def _idle(self) -> float:
        last = self._used()
        while True:
            time.sleep(8 * TICK)
            now = self._used()
            if now - last < TICK / 2 and all(worker.status() != psutil.STATUS_RUNNING for worker in self._workers):
                return now
            last = now

    def _used(self) -> float:
        return sum(sum(worker.cpu_times()[:2]) for worker in self._workers)


def _is_server(process: psutil.Process) -> bool:
    return any("resource_tracker" in word for word in process.cmdline())


def cpu_seconds(run: Callable[[], object], seconds: float) -> float:
    """CPU seconds of one call in this process, averaged over at least `seconds`."""
    run()
    began, count = time.process_time(), 0
    while True:
        run()
        count += 1
        used = time.process_time() - began
        if used >= seconds:
            return used / count


Clips = Sequence[Clip]


@dataclass(frozen=True)
class JpegFolder(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """One JPEG per frame, decoded by PIL; an item is a clip, uint8 (T, 3, H, W), with its actions."""

    folder: Path
    clips: Clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        clip = self.clips[number]
        rows = range(clip.start, clip.start + clip.length)
        frames = [np.asarray(Image.open(self.folder / f"{row}.jpg").convert("RGB")) for row in rows]
        actions = np.load(self.folder / "actions.npy", mmap_mode="r")[rows.start : rows.stop - 1]
        images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
        return images, torch.from_numpy(np.array(actions))

    @classmethod
    def write(cls, store: Store, clips: Clips, folder: Path) -> JpegFolder:
        """Write the JPEGs of a store, byte for byte, and its actions."""
        folder.mkdir()
        jpegs, actions = store.read(np.arange(store.rows))
        for row, jpeg in enumerate(jpegs):
            (folder / f"{row}.jpg").write_bytes(jpeg)
        np.save(folder / "actions.npy", actions)
        return cls(folder, clips)


@dataclass(frozen=True)
class FloatBatches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Reads and decodes like daydrive's loader, but the worker returns float32 in [0, 1], as torchvision's ToTensor."""

    store: Store
    clips: Clips
    batch_size: int

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        batch = read_clips(self.store, [self.clips[number * self.batch_size + i] for i in range(self.batch_size)])
        return batch.images.float().div_(255), batch.actions


class Shard(IterableDataset[list[torch.Tensor]]):
    """webdataset over a tar of clips with frames and actions, decoded by its own `rgb8` (PIL) or by simplejpeg."""

    def __init__(self, tar: Path, length: int, batch_size: int, with_pil: bool) -> None:
        self._arguments = str(tar), length, batch_size, with_pil

    @classmethod
    def write(cls, store: Store, clips: Clips, tar: Path) -> None:
        with tarfile.open(tar, "w") as file:
            for number, clip in enumerate(clips):
                jpegs, actions = store.read(np.arange(clip.start, clip.start + clip.length))
                written = io.BytesIO()
                np.save(written, actions[:-1])
                files = {f"{k:03d}.jpg": jpeg for k, jpeg in enumerate(jpegs)} | {"actions.npy": written.getvalue()}
                for name, data in files.items():
                    entry = tarfile.TarInfo(f"{number:06d}.{name}")
                    entry.size = len(data)
                    file.addfile(entry, io.BytesIO(data))

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        import simplejpeg
        import webdataset

        tar, length, batch_size, with_pil = self._arguments

        def clip(sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
            frames = [sample[f"{k:03d}.jpg"] for k in range(length)]
            if with_pil:
                return np.stack(frames), sample["actions.npy"]
            decoded = [simplejpeg.decode_jpeg(frame, "RGB") for frame in frames]
            return np.stack(decoded), np.load(io.BytesIO(sample["actions.npy"]))

        pipeline = webdataset.WebDataset(tar, shardshuffle=False, empty_check=False).repeat()
        pipeline = pipeline.decode("rgb8") if with_pil else pipeline
        for images, actions in pipeline.map(clip).batched(batch_size):
            yield [torch.from_numpy(images).permute(0, 1, 4, 2, 3).contiguous(), torch.from_numpy(np.stack(actions))]


def has_webdataset() -> bool:
    return importlib.util.find_spec("webdataset") is not None


@dataclass(frozen=True)
class _Forever:
    """Sampler that repeats the indices 0 … count-1 endlessly."""

    count: int

    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(self.count))


def in_torch(dataset: Dataset[Any], batch_size: int | None, count: int | None) -> DataLoader[Any]:
    """An endless DataLoader with one worker over the items 0 … count-1, or over an iterable dataset (None)."""
    return DataLoader(
        dataset, batch_size=batch_size, sampler=None if count is None else _Forever(count), num_workers=1,
        multiprocessing_context=forkserver(), worker_init_fn=_one_thread, persistent_workers=True,
    )  # fmt: skip


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
