"""Drives read on a Ray cluster: one task for each, tried again on another node where one is lost.

Every node needs daydrive and sees the recordings at the same path. Parts end in the workspace beside the store, which
all nodes see too; for a store on an object store they pass through `<store>.partial/` there.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daydrive.data.prepare import shards
from daydrive.errors import UserError
from daydrive.locations import CONNECT_SECONDS, Location, exists, is_remote, object_store_errors

TRIES = 5
"""how often a drive is begun again after a node was lost"""

POLL_SECONDS = 1.0

SHARED = "all nodes need the recordings at the same path, and --output in a folder they share, or on s3:// or gs://"


@dataclass(frozen=True)
class RayEngine:
    """workers: processors of a cluster that is started here. address: of one that runs already."""

    workers: int
    address: str | None
    passage: Location | None

    @classmethod
    def joined(cls, workers: int, address: str | None, target: Location) -> RayEngine:
        if importlib.util.find_spec("ray") is None:
            raise UserError("--engine ray needs the package ray, `pip install 'daydrive[ray]'`")
        return cls(max(workers, 1), address, target.with_name(f"{target.name}.partial") if is_remote(target) else None)

    def write_parts(self, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        if not jobs:
            return
        with self._cluster() as ray:
            self._run(ray, jobs, progress)
        if self.passage is not None and exists(self.passage):
            with object_store_errors(self.passage):
                self.passage.rmdir(recursive=True)  # type: ignore[call-arg]

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """The cluster joined, or one of this machine alone, which Ray guards with a token of its own."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        _check_address(self.address)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            options |= {"num_cpus": self.workers, "include_dashboard": False}
        try:
            ray.init(address=self.address or "local", **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _not_joined(self.address, error) from error
        try:
            yield ray
        finally:
            ray.shutdown()

    def _run(self, ray: Any, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        task = ray.remote(num_cpus=1, max_retries=TRIES)(_work)
        pending = {task.remote(job, _passing(self.passage, job)): job for job in jobs}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                job = pending.pop(reference)
                frames = _outcome(ray, reference)
                _arrive(job, _passing(self.passage, job))
                progress.frames_done(frames)
                progress.drive_done()


def _check_address(address: str | None) -> None:
    """UserError where nobody listens at HOST:PORT, for which Ray itself would wait for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _not_joined(address, error) from error


def _not_joined(address: str | None, error: Exception) -> UserError:
    reason = " ".join(str(error).split("\n")[0].split())[:200]
    where = f"--ray-address {address}: there is no Ray cluster to join" if address else "Ray does not start here"
    return UserError(f"{where} ({reason})")


def _passing(passage: Location | None, job: shards.Job) -> Location | None:
    """Where a part waits to be fetched."""
    return None if passage is None else passage / job.file.name


def _outcome(ray: Any, reference: Any) -> int:
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if isinstance(error.cause, OSError):
            raise UserError(f"a Ray node cannot read a drive or write its part ({error.cause}); {SHARED}") from None
        raise
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split("\n")[0].split())[:200]
        raise shards.UnfinishedError(
            f"the Ray cluster has lost a drive's work {TRIES + 1} times ({reason}); the next run goes on with the "
            "drives that were finished"
        ) from error


def _arrive(job: shards.Job, passing: Location | None) -> None:
    if passing is not None:
        temporary = job.file.with_name(f"{job.file.name}.tmp")
        _copy(passing, temporary)
        os.replace(temporary, job.file)
    elif not job.file.exists():
        raise UserError(f"a Ray node wrote {job.file.name} where this machine does not see it; {SHARED}")


def _copy(source: Location, target: Location) -> None:
    with (
        object_store_errors(source),
        object_store_errors(target),
        source.open("rb") as stream,
        target.open("wb") as copy,
    ):
        shutil.copyfileobj(stream, copy, 1 << 20)


def _work(job: shards.Job, passing: Location | None) -> int:
    """On a node: writes the part of a drive and returns its frames. Two nodes that write the same one don't meet."""
    import cv2

    cv2.setNumThreads(1)
    name = f"{job.file.stem}.{uuid.uuid4().hex}.part"
    if passing is None:
        own = dataclasses.replace(job, file=job.file.with_name(name))
        frames = _write(own)
        os.replace(own.file, job.file)
        return frames
    with tempfile.TemporaryDirectory(prefix="daydrive-") as folder:
        own = dataclasses.replace(job, file=Path(folder) / name)
        frames = _write(own)
        _copy(own.file, passing)
    return frames


def _write(job: shards.Job) -> int:
    shards.write_part(job, lambda frames: None)
    return shards.read_part(job.file)[0]
