"""Processes of a distributed run: their group, collective operations, and ending all of them when one fails.

Uses torch.distributed. Processes are started by torchrun, by Slurm's srun alone or by `local_processes`, and find each
other by the environment variables that those set.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from daydrive.errors import UserError

T = TypeVar("T")

FAILED, INTERRUPTED = 2, 130
POLL_SECONDS = 0.5
RENDEZVOUS = "DAYDRIVE_RENDEZVOUS"
"""Environment variable: the address at which processes find each other; default: torchrun's variables."""
RENDEZVOUS_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a training or an evaluation, as seen by one of them. Rank 0 writes and logs."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def single(cls, device: torch.device) -> DistributedContext:
        return cls(0, 1, device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process has called it."""
        if self.world_size > 1:
            dist.all_reduce(torch.zeros(1))

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """The sums over all processes, which have to give the same names."""
        if self.world_size == 1 or not values:
            return values
        tensor = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(tensor)
        return dict(zip(values, tensor.tolist(), strict=True))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        return {name: value / self.world_size for name, value in self.sum(values).items()}

    def max(self, value: float) -> float:
        if self.world_size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return float(tensor)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this process works on."""
        return items[self.rank :: self.world_size]

    def gather(self, results: list[T]) -> list[T]:
        """The results of all processes, in the order of the items that `share` divided; any picklable objects."""
        if self.world_size == 1:
            return results
        gathered: list[list[T]] = [[]] * self.world_size
        dist.all_gather_object(gathered, results)
        longest = max(map(len, gathered))
        return [part[i] for i in range(longest) for part in gathered if i < len(part)]

    def broadcast(self, text: str) -> str:
        """The text of rank 0, on every process."""
        if self.world_size == 1:
            return text
        texts = [text]
        dist.broadcast_object_list(texts)
        return texts[0]


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Set torchrun's variables from those of an srun step with several tasks, unless torchrun started this process.

    A batch script or a shell inside a job is not a step, even if the job has several tasks. Existing variables are not
    changed.
    """
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if tasks == 1 or "RANK" in environment or "SLURM_PROCID" not in environment:
        return
    nodes = int(environment.get("SLURM_STEP_NUM_NODES") or 1)
    job, step = (int(environment.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    found = {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": str(max(1, tasks // nodes)),
        "MASTER_ADDR": first_host(environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")),
        "MASTER_PORT": str(20_000 + (job + step) % 20_000),
    }
    for name, value in found.items():
        environment.setdefault(name, value)


def first_host(nodes: str) -> str:
    """The first host of a node list in Slurm's notation.

    >>> first_host("gpu[007-009,12]-a,login")
    'gpu007-a'
    """
    found = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in found.groups()) or "localhost" if found else "localhost"


def launched_processes() -> int:
    """The number of processes that torchrun or Slurm started."""
    adopt_slurm(os.environ)
    return int(os.environ.get("WORLD_SIZE", "1"))


def processes_of_this_machine() -> int:
    """The number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is rank 0, according to torchrun's or Slurm's variables."""
    adopt_slurm(os.environ)
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group(
    device: torch.device, nccl: bool = False, timeout: timedelta | None = None
) -> Iterator[DistributedContext]:
    """Join the process group while this context lasts. An error in any process ends all within seconds; only the first
    is reported.

    device: a GPU is replaced by this process's own, from LOCAL_RANK. nccl: use NCCL for tensors on GPUs; everything
    else uses gloo. timeout: how long a process waits for another; default: PyTorch's.
    """
    if launched_processes() == 1:
        yield DistributedContext.single(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and nccl else "gloo"
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address = os.environ.get(RENDEZVOUS, "env://")
    store, *_ = next(iter(dist.rendezvous(address, rank, world, timeout=RENDEZVOUS_TIMEOUT)))
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store), rank=rank, world_size=world, timeout=timeout
    )
    failure = _SharedFailure(dist.PrefixStore("failure", store), rank, world)
    try:
        yield DistributedContext(rank, world, device)
        failure.stop_watching()
        dist.destroy_process_group()
    except KeyboardInterrupt:
        failure.stop_watching()
        if not failure.report("interrupted"):
            raise SystemExit(INTERRUPTED) from None
        raise
    except Exception as error:
        failure.stop_watching()
        if not failure.report(str(error)):
            raise SystemExit(FAILED) from None
        if isinstance(error, UserError) and RENDEZVOUS not in os.environ:
            raise UserError(f"{error} (process {rank} of {world})") from error
        if isinstance(error, RuntimeError) and _is_lost_connection(error):
            raise UserError(
                f"process {rank} of {world} lost another one, which ended without an error (killed or out of memory?): "
                f"{str(error).splitlines()[0][:200]}"
            ) from error
        raise


class _SharedFailure:
    """The first failure of any process, in the store that all processes reach. A thread ends this process when another
    one has failed, because the main thread may be waiting for that process."""

    def __init__(self, store: dist.Store, rank: int, world: int) -> None:
        self._store, self._rank = store, rank
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="daydrive-failure-watch")
        self._thread.start()

    def report(self, text: str) -> bool:
        """Report a failure; returns whether it was the first."""
        try:
            own = f"{self._rank}: {text}"
            first: bytes = self._store.compare_set("first", "", own)
        except RuntimeError:
            return False
        return first.decode(errors="replace") == own

    def stop_watching(self) -> None:
        self._done.set()
        self._thread.join()  # it must not use the store while the interpreter shuts down

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            try:
                failed = self._store.check(["first"])
            except RuntimeError:
                failed = True
            if failed and not self._done.is_set():
                time.sleep(2 * POLL_SECONDS)
                os._exit(FAILED)


def _is_lost_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("connection", "peer", "nccl", "gloo", "socket", "timed out"))
