"""One process or several: who takes part, what they tell each other, and how the failure of one ends all of them.

The engine is torch.distributed's; processes are started by torchrun, or by Slurm's srun alone, and found by the
variables that those set.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from daydrive.errors import UserError

FAILED, INTERRUPTED = 2, 130
WATCH_SECONDS = 0.5
JOINING = timedelta(minutes=5)


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a training or an evaluation, seen from one of them; rank 0 of `world` is the one that writes and
    logs."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def single(cls, device: torch.device) -> DistributedContext:
        return cls(0, 1, device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.all_reduce(torch.zeros(1))

    def sum(self, values: dict[str, float]) -> dict[str, float]:
        """The sums over all processes; the same names everywhere."""
        if self.world == 1 or not values:
            return values
        numbers = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(numbers)
        return dict(zip(values, numbers.tolist(), strict=True))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        return {name: value / self.world for name, value in self.sum(values).items()}

    def max(self, number: float) -> float:
        if self.world == 1:
            return number
        numbers = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return float(numbers)

    def broadcast(self, text: str) -> str:
        """What rank 0 says, on every process."""
        if self.world == 1:
            return text
        said = [text]
        dist.broadcast_object_list(said)
        return said[0]


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Set torchrun's variables from those of a step of srun with several tasks, where there is no torchrun.

    A batch script or a shell of a job is no step, whatever number of tasks the job has. What is set already stays.
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
    """The first of a list as Slurm writes it.

    >>> first_host("gpu[007-009,12]-a,login")
    'gpu007-a'
    """
    found = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in found.groups()) or "localhost" if found else "localhost"


def processes_started() -> int:
    """How many there are, by what torchrun or Slurm say."""
    adopt_slurm(os.environ)
    return int(os.environ.get("WORLD_SIZE", "1"))


def first_process() -> bool:
    """Whether this is rank 0, by what torchrun or Slurm say."""
    adopt_slurm(os.environ)
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: torch.device, nccl: bool = False, timeout: timedelta | None = None) -> Iterator[DistributedContext]:
    """This process's place in the team. An error in any process ends all within seconds; only the first one is told.

    device: this process's own is taken from LOCAL_RANK where it is a GPU. nccl: for what lies on GPUs; all else goes by
    gloo. timeout: for how long one process may wait for another; default: PyTorch's.
    """
    if processes_started() == 1:
        yield DistributedContext.single(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and nccl else "gloo"
    store, rank, world = next(iter(dist.rendezvous("env://", timeout=JOINING)))
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
        if not failure.first("interrupted"):
            raise SystemExit(INTERRUPTED) from None
        raise
    except Exception as error:
        failure.stop_watching()
        if not failure.first(str(error)):
            raise SystemExit(FAILED) from None
        if isinstance(error, UserError):
            raise UserError(f"{error} (process {rank} of {world})") from error
        if isinstance(error, RuntimeError) and _is_lost_connection(error):
            raise UserError(
                f"process {rank} of {world} lost another one, which ended without a word (killed, or out of memory?): "
                f"{str(error).splitlines()[0][:200]}"
            ) from error
        raise


class _SharedFailure:
    """The first failure of the team, in the store that all processes reach; a thread ends this process when it sees
    one, for the main thread may be waiting for a process that is gone."""

    def __init__(self, store: dist.Store, rank: int, world: int) -> None:
        self._store, self._rank = store, rank
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="daydrive-failure-watch")
        self._thread.start()

    def first(self, text: str) -> bool:
        """Report a failure; whether this process was the first to."""
        try:
            mine = f"{self._rank}: {text}"
            told: bytes = self._store.compare_set("first", "", mine)
        except RuntimeError:
            return False
        return told.decode(errors="replace") == mine

    def stop_watching(self) -> None:
        self._done.set()
        self._thread.join()  # at the end of the interpreter it must not be inside the store

    def _watch(self) -> None:
        while not self._done.wait(WATCH_SECONDS):
            try:
                failed = self._store.check(["first"])
            except RuntimeError:
                failed = True
            if failed and not self._done.is_set():
                time.sleep(2 * WATCH_SECONDS)
                os._exit(FAILED)


def _is_lost_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("connection", "peer", "nccl", "gloo", "socket", "timed out"))
