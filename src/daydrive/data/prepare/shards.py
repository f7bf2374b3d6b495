"""Shards: intermediate Arrow files with one drive each, written by worker processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa

from daydrive.data.images import JPEG_QUALITY, Fit, encode, fitted, recorded_size
from daydrive.data.parent_watch import end_with_parent
from daydrive.errors import UserError
from daydrive.files import atomic_replace
from daydrive.types import ACTION_HIGH, ACTION_LOW, Drive, Frame

BATCH = 256
"""Number of frames held in memory at a time."""

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Job:
    """A drive to be written to `file`, with images of `image_size` (H, W) and a column for each of `values`."""

    drive: Drive
    image_size: tuple[int, int]
    values: tuple[str, ...]
    file: Path
    fit: Fit = "stretch"
    quality: int = JPEG_QUALITY


class Progress(Protocol):
    def drive_done(self) -> None: ...

    def frames_done(self, frames: int) -> None: ...


class UnfinishedError(UserError):
    """The preparation cannot continue now; finished shards remain valid."""


class StoppedError(Exception):
    """Stops the work on a drive because the whole preparation is stopped."""


def schema(values: Sequence[str]) -> pa.Schema:
    """Columns of a shard: the data of the source, without splits."""
    return pa.schema(
        [
            pa.field("image", pa.binary()),
            pa.field("action", pa.list_(pa.float32(), 4)),
            pa.field("time", pa.float64()),
            *[pa.field(name, pa.float64()) for name in values],
        ]
    )


def read_shard(file: Path) -> tuple[int, tuple[int, int]]:
    """Number of frames in a shard, and the size (H, W) they were recorded at."""
    with pa.memory_map(str(file)) as stream, pa.ipc.open_file(stream) as reader:
        frames = sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
        height, width = json.loads(reader.schema.metadata[b"recorded_size"])
    return frames, (height, width)


def shard_batches(file: Path, start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Yield rows [start, stop) of a shard in batches."""
    with pa.memory_map(str(file)) as stream, pa.ipc.open_file(stream) as reader:
        offset = 0
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            first, last = max(start - offset, 0), min(stop - offset, batch.num_rows)
            if first < last:
                yield batch.slice(first, last - first)
            offset += batch.num_rows


def write_shard(job: Job, frames_done: Callable[[int], None]) -> None:
    """Read a drive and write its shard atomically.

    frames_done: called with the number of frames since the last call; may raise to stop.
    """
    frames = job.drive.frames()
    buffer: list[Frame] = []
    writer = None
    with atomic_replace(job.file) as temporary, pa.OSFile(str(temporary), "wb") as stream:
        for frame in frames:
            if writer is None:
                size = job.image_size if isinstance(frame.image, bytes) else recorded_size(frame.image)
                metadata = {"recorded_size": json.dumps(list(size))}
                writer = pa.ipc.new_file(stream, schema(job.values).with_metadata(metadata))
            buffer.append(prepare_frame(frame, job))
            frames_done(1)
            if len(buffer) == BATCH:
                writer.write_batch(_batch(buffer, job.values))
                buffer = []
        if writer is None:
            raise UserError(f"the drive '{job.drive.name}' has no frames")
        if buffer:
            writer.write_batch(_batch(buffer, job.values))
        writer.close()


def write_shards(jobs: Sequence[Job], workers: int, progress: Progress) -> None:
    """Write all shards with `workers` processes, or in this process for one. The first error stops the others."""
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            write_shard(job, progress.frames_done)
            progress.drive_done()
        return
    context = get_context("forkserver")
    counter, stop = context.Value("q", 0), context.Event()
    executor = ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=_start_worker, initargs=(counter, stop)
    )
    try:
        pending: set[Future[None]] = {executor.submit(_run_job, job) for job in jobs}
        reported = 0
        while pending:
            done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            count = counter.value
            progress.frames_done(count - reported)
            reported = count
            for future in done:
                future.result()
                progress.drive_done()
    except BrokenProcessPool as error:
        raise UnfinishedError(
            "a worker process was killed (out of memory?); use fewer --workers, the next run resumes with the finished "
            "drives"
        ) from error
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)


def prepare_frame(frame: Frame, job: Job) -> Frame:
    """Return the frame with its image as the JPEG for the store."""
    values = frame.action
    if values.shape != (4,) or not np.all((values >= ACTION_LOW - 1e-6) & (values <= ACTION_HIGH + 1e-6)):
        raise AssertionError(f"{job.drive.name}: invalid action {values} from the source")
    if isinstance(frame.image, bytes):
        return frame
    return frame._replace(image=encode(fitted(frame.image, job.image_size, job.fit), job.quality))


def _batch(frames: list[Frame], values: Sequence[str]) -> pa.RecordBatch:
    actions = np.stack([frame.action for frame in frames]).astype(np.float32).clip(ACTION_LOW, ACTION_HIGH)
    columns: list[Any] = [
        pa.array([frame.image for frame in frames], pa.binary()),
        pa.FixedSizeListArray.from_arrays(pa.array(actions.reshape(-1)), 4),
        pa.array([frame.time for frame in frames], pa.float64()),
    ]
    for name in values:
        columns.append(pa.array([frame.values.get(name, float("nan")) for frame in frames], pa.float64()))
    return pa.RecordBatch.from_arrays(columns, schema=schema(values))


_counter: Any = None
_stop: Any = None


def _start_worker(counter: Any, stop: Any) -> None:
    global _counter, _stop
    _counter, _stop = counter, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    end_with_parent()


def _run_job(job: Job) -> None:
    write_shard(job, _count)


def _count(frames: int) -> None:
    if _stop.is_set():
        raise StoppedError
    with _counter.get_lock():
        _counter.value += frames
