"""Reading drives on a Ray cluster: one task per drive, retried on another node if a node is lost.

Every node needs daydrive and access to the recordings at the same path. Shards are written to the workspace next to the
store, which all nodes must share; for a store on an object store they are transferred through `<store>.partial/` there.
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

MAX_RETRIES = 5
"""Number of retries of a drive after nodes were lost."""

POLL_SECONDS = 1.0

SHARED = "all nodes need the recordings at the same path, and --output in a shared folder, or on s3:// or gs://"


@dataclass(frozen=True)
class RayEngine:
    """workers: processors of a cluster started on this machine. address: of a running cluster. staging: folder on the
    object store through which shards are transferred, or None."""

    workers: int
    address: str | None
    staging: Location | None

    @classmethod
    def create(cls, workers: int, address: str | None, target: Location) -> RayEngine:
        """Raises UserError if the package ray is missing."""
        if importlib.util.find_spec("ray") is None:
            raise UserError("--engine ray needs the package ray: `pip install 'daydrive[ray]'`")
        return cls(max(workers, 1), address, target.with_name(f"{target.name}.partial") if is_remote(target) else None)

    def write_shards(self, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        if not jobs:
            return
        with self._cluster() as ray:
            self._run(ray, jobs, progress)
        if self.staging is not None and exists(self.staging):
            with object_store_errors(self.staging):
                self.staging.rmdir(recursive=True)  # type: ignore[call-arg]

    @contextmanager
    def _cluster(self) -> Iterator[Any]:
        """Connect to the cluster, or start one on this machine, which Ray protects with its own token."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        _check_address(self.address)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            options |= {"num_cpus": self.workers, "include_dashboard": False}
        try:
            ray.init(address=self.address or "local", **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _connection_error(self.address, error) from error
        try:
            yield ray
        finally:
            ray.shutdown()

    def _run(self, ray: Any, jobs: Sequence[shards.Job], progress: shards.Progress) -> None:
        task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_run_job)
        pending = {task.remote(job, _staged(self.staging, job)): job for job in jobs}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                job = pending.pop(reference)
                frames = _result(ray, reference)
                _receive(job, _staged(self.staging, job))
                progress.frames_done(frames)
                progress.drive_done()


def _check_address(address: str | None) -> None:
    """Raise UserError if nothing listens at HOST:PORT; Ray itself would wait for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _connection_error(address, error) from error


def _connection_error(address: str | None, error: Exception) -> UserError:
    reason = " ".join(str(error).split("\n")[0].split())[:200]
    where = f"--ray-address {address}: cannot connect to a Ray cluster" if address else "Ray cannot be started"
    return UserError(f"{where} ({reason})")


def _staged(staging: Location | None, job: shards.Job) -> Location | None:
    """The location of a shard on the object store until it is fetched."""
    return None if staging is None else staging / job.file.name


def _result(ray: Any, reference: Any) -> int:
    try:
        return int(ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if isinstance(error.cause, OSError):
            raise UserError(f"a Ray node cannot read a drive or write its shard ({error.cause}); {SHARED}") from None
        raise
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split("\n")[0].split())[:200]
        raise shards.UnfinishedError(
            f"the Ray cluster lost the task of a drive {MAX_RETRIES + 1} times ({reason}); the next run resumes with "
            "the finished drives"
        ) from error


def _receive(job: shards.Job, staged: Location | None) -> None:
    if staged is not None:
        temporary = job.file.with_name(f"{job.file.name}.tmp")
        _copy(staged, temporary)
        os.replace(temporary, job.file)
    elif not job.file.exists():
        raise UserError(f"a Ray node wrote {job.file.name} to a location that this machine cannot see; {SHARED}")


def _copy(source: Location, target: Location) -> None:
    with (
        object_store_errors(source),
        object_store_errors(target),
        source.open("rb") as stream,
        target.open("wb") as copy,
    ):
        shutil.copyfileobj(stream, copy, 1 << 20)


def _run_job(job: shards.Job, staged: Location | None) -> int:
    """Write the shard of a drive on a node and return its number of frames. Unique names keep retries apart."""
    import cv2

    cv2.setNumThreads(1)
    name = f"{job.file.stem}.{uuid.uuid4().hex}.part"
    if staged is None:
        own = dataclasses.replace(job, file=job.file.with_name(name))
        frames = _write(own)
        os.replace(own.file, job.file)
        return frames
    with tempfile.TemporaryDirectory(prefix="daydrive-") as folder:
        own = dataclasses.replace(job, file=Path(folder) / name)
        frames = _write(own)
        _copy(own.file, staged)
    return frames


def _write(job: shards.Job) -> int:
    shards.write_shard(job, lambda frames: None)
    return shards.read_shard(job.file)[0]
