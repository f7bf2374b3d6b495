"""How much memory a training step takes, how much there is, and which setting to change where it does not fit."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.optim import Optimizer

from daydrive.config import Config
from daydrive.training.optim.ema import local

SHARE = 0.9
"""Of what is there, so much can be planned with: allocators leave gaps, and other programs breathe."""

LOOK_SECONDS = 0.005
THREAD_STACK = 8 << 20
SPARE = 256 << 20
"""Address space that a step may reserve without ever touching it."""

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "alloc_failed")


def size_text(count: float) -> str:
    """Bytes in words: `3.2 GiB`, `14 MiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def weight_bytes(model: nn.Module, whole: bool = False) -> int:
    """Of parameters and buffers: this process's part where they are shared out, all of them with `whole`."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(_bytes(tensor, whole) for tensor in tensors)


def moment_bytes(optimizers: Sequence[Optimizer], whole: bool = False, missing: bool = False) -> int:
    """Of what the optimizers remember of each weight: two moments of Adam, a momentum of SGD and Muon.

    missing: only what they have not allocated yet.
    """
    total = 0
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            moments = 2 if "betas" in group else int(bool(group.get("momentum")))
            weights = [p for p in group["params"] if not (missing and optimizer.state.get(p))]
            total += moments * sum(_bytes(weight, whole) for weight in weights)
    return total


def _bytes(tensor: torch.Tensor, whole: bool) -> int:
    counted = tensor if whole else local(tensor)
    return counted.numel() * counted.element_size()


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still take: of the GPU, or of the machine, within the limit of its control group.

    The processes that torchrun started on this machine share the latter equally.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    free = psutil.virtual_memory().available
    with suppress(OSError):
        limits = cgroup_available(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup"))
        free = min([free, *limits])
    return int(free // local_processes())


def local_processes() -> int:
    """How many processes of this training run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cgroup_available(groups: str, root: Path) -> list[int]:
    """Bytes left in each memory control group that this process is in, at whatever level; version 1 and 2.

    groups: the text of /proc/self/cgroup, lines `number:controllers:path`; root: where the groups are mounted.
    """
    left = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit, used = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            mount, limit, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        place = mount / path.lstrip("/")
        for folder in (place, *place.parents):
            if folder.is_relative_to(mount):
                with suppress(OSError, ValueError):  # no such file, or 'max'
                    most = int((folder / limit).read_text())
                    cached = _reclaimable((folder / "memory.stat").read_text())
                    left.append(max(0, most - int((folder / used).read_text()) + cached))
    return left


def _reclaimable(stat: str) -> int:
    """Pages of files that the kernel drops when memory gets short."""
    metrics = dict(line.split() for line in stat.splitlines())
    return int(metrics.get("total_inactive_file", metrics.get("inactive_file", 0)))


class PeakMemory:
    """How far memory grows at most while this lasts: what PyTorch allocates on a GPU, or this process's resident set,
    looked at every few milliseconds."""

    def __init__(self, device: torch.device) -> None:
        self.growth = 0
        self._device, self._process = device, psutil.Process()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            self._before = self._process.memory_info().rss
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.growth = torch.cuda.max_memory_allocated(self._device) - self._before
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._done.set()
            self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            with suppress(MemoryError):
                self.growth = max(self.growth, self._process.memory_info().rss - self._before)


@contextmanager
def limited_memory(there: int, device: torch.device) -> Iterator[None]:
    """On a processor under Linux, let allocations beyond `there` bytes fail, instead of the kernel killing the process.

    Elsewhere it does nothing.
    """
    if device.type == "cuda" or sys.platform != "linux":
        yield
        return
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = psutil.Process().memory_info().data + there + SPARE + THREAD_STACK * torch.get_num_threads()
    limits = [limit, *(bound for bound in (before, hard) if bound != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def memory_advice(
    needed: int | None, there: int, config: Config, fixed: int = 0, clips: int | None = None, device: str = "cpu"
) -> str:
    """One sentence: what does not fit, and what to set.

    needed: bytes of a step, None where it broke off before they were known. there: bytes free for it. fixed: bytes
    of `needed` that are the same for any batch. clips: how many went through at once, `batch_size` where not given.
    """
    training = config.training
    clips = clips or training.batch_size
    an_update = training.batch_size * training.gradient_accumulation
    fits = clips // 2 if needed is None else int((SHARE * there - fixed) / ((needed - fixed) / clips))
    smaller = [size for size in range(1, min(fits, clips - 1) + 1) if an_update % size == 0]
    ways = []
    if smaller:
        ways.append(
            f"training.batch_size={smaller[-1]} with training.gradient_accumulation={an_update // smaller[-1]} "
            f"(the same {an_update} clips an update)"
        )
    if not training.use_gradient_checkpointing:
        ways.append("training.use_gradient_checkpointing=true")
    if not training.use_amp:
        ways.append("training.use_amp=true")
    if not smaller:
        widest = [override.partition("=")[0] for override in config.model.larger()[-1:]]
        ways.append(f"a smaller {' or '.join(['data.sequence_length', *widest])}")
    memory = "GPU memory" if device == "cuda" else "memory"
    takes = f"more than the {size_text(there)} of {memory} that are free"
    if needed is not None:
        takes = f"{size_text(needed)} of {memory}, and {size_text(there)} are free"
    return f"a step with training.batch_size = {training.batch_size} takes {takes}; set {', or '.join(ways)}"
