"""One process or several: who takes part, what they sum up, and how the failure of one ends all of them.

The engine is torch.distributed's; processes are started by torchrun or Slurm and found by the variables that those
set (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from daydrive.config import TrainingConfig
from daydrive.errors import UserError
from daydrive.models import WorldModel

FAILED = 2
WATCH_SECONDS = 0.5
JOINING = timedelta(minutes=5)


@dataclass(frozen=True)
class Team:
    """The processes of a training, seen from one of them; rank 0 of `world` is the one that writes and logs."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def alone(cls, device: torch.device) -> Team:
        return cls(0, 1, device)

    @property
    def main(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
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

    def largest(self, number: float) -> float:
        if self.world == 1:
            return number
        numbers = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return float(numbers)

    def told(self, text: str) -> str:
        """What rank 0 says, on every process."""
        if self.world == 1:
            return text
        said = [text]
        dist.broadcast_object_list(said)
        return said[0]


def join_wanted(config: TrainingConfig) -> tuple[int, str | None]:
    """How many processes there are, and a sentence where that is not what the settings ask for.

    Raises UserError where several processes were started for a training that is not distributed.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not config.distributed:
        raise UserError(
            f"{world} processes were started, but training.distributed is false, so each would train on its own; set "
            f"training.distributed=true or use configs/training/distributed.yaml"
        )
    if config.distributed and world == 1:
        return 1, "one process only; 'torchrun --nproc_per_node=N scripts/train.py …' starts N"
    if config.distributed and config.backend == "nccl" and not torch.cuda.is_available():
        return world, "training.backend = nccl needs GPUs and there are none here; gloo is used"
    return world, None


@contextmanager
def joined(config: TrainingConfig, device: torch.device) -> Iterator[Team]:
    """This process's place in the team. An error in any process ends all within seconds; only the first one is told.

    device: this process's own is taken from LOCAL_RANK where it is a GPU.
    """
    world, _ = join_wanted(config)
    if world == 1:
        yield Team.alone(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    gpu_backend = config.backend == "nccl" or config.backend == "auto"
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and gpu_backend else "gloo"
    store, rank, world = next(iter(dist.rendezvous("env://", timeout=JOINING)))
    dist.init_process_group(backend, store=dist.PrefixStore("group", store), rank=rank, world_size=world)
    failure = _SharedFailure(dist.PrefixStore("failure", store), rank, world)
    try:
        team = Team(rank, world, device)
        yield team
        team.wait()
        failure.stop_watching()
        dist.destroy_process_group()
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


def shard_model(model: WorldModel, team: Team) -> WorldModel:
    """FSDP2: parameters, gradients and moments shared out over the processes, part by part (Zhao et al. 2023)."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")  # nothing works on outputs in place
    model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(team.device.type, (team.world,))
    for part in (model.encoder, model.dynamics, model.decoder):
        fully_shard(part, mesh=mesh)
    for verb in ("paint", "motion"):
        register_fsdp_forward_method(model.decoder, verb)
    fully_shard(model, mesh=mesh)
    return model


def replicate_model(model: nn.Module, team: Team) -> DistributedDataParallel:
    """DDP: every process holds the whole model; gradients are averaged (Li et al. 2020)."""
    devices = [team.device.index] if team.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, broadcast_buffers=False)
