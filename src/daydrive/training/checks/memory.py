"""Memory of a training step: what it needs, what is available, and which settings reduce it."""

from __future__ import annotations

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
from daydrive.distributed import processes_of_this_machine
from daydrive.machine import peak_rss
from daydrive.training.optim.ema import local

USABLE_FRACTION = 0.9
"""Fraction of the available memory to plan with: allocators fragment, and other programs vary."""

SAMPLE_SECONDS = 0.005
THREAD_STACK = 8 << 20
HEADROOM = 256 << 20
"""Address space that a step may reserve without touching it."""

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "alloc_failed")


def size_text(count: float) -> str:
    """A number of bytes as text: `3.2 GiB`, `14 MiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def weight_bytes(model: nn.Module, full: bool = False) -> int:
    """Bytes of parameters and buffers: of this process's shards, or of the full tensors with `full`."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(_bytes(tensor, full) for tensor in tensors)


def moment_bytes(optimizers: Sequence[Optimizer], full: bool = False, missing: bool = False) -> int:
    """Bytes of the optimizers' state per weight: two moments of Adam, one momentum of SGD and Muon.

    full: of full tensors instead of this process's shards. missing: only what is not allocated yet.
    """
    total = 0
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            moments = 2 if "betas" in group else int(bool(group.get("momentum")))
            weights = [p for p in group["params"] if not (missing and optimizer.state.get(p))]
            total += moments * sum(_bytes(weight, full) for weight in weights)
    return total


def _bytes(tensor: torch.Tensor, full: bool) -> int:
    counted = tensor if full else local(tensor)
    return counted.numel() * counted.element_size()


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate: on the GPU, or in main memory within the limits of its control
    groups.

    Main memory is divided equally among the processes on this machine.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    free = psutil.virtual_memory().available
    with suppress(OSError):
        limits = cgroup_available(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup"))
        free = min([free, *limits])
    return int(free // processes_of_this_machine())


def cgroup_available(groups: str, root: Path) -> list[int]:
    """Bytes left in each memory control group of this process, at every level; versions 1 and 2.

    groups: the text of /proc/self/cgroup, lines `number:controllers:path`. root: where the groups are mounted.
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
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                with suppress(OSError, ValueError):  # no such file, or 'max'
                    limit_bytes = int((folder / limit).read_text())
                    cached = _reclaimable((folder / "memory.stat").read_text())
                    left.append(max(0, limit_bytes - int((folder / used).read_text()) + cached))
    return left


def _reclaimable(stat: str) -> int:
    """Page cache that the kernel drops under memory pressure."""
    values = dict(line.split() for line in stat.splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


class PeakMemory:
    """A context manager that measures the peak growth of memory in bytes: allocations of PyTorch on a GPU, or this
    process's resident set, by the kernel's own peak (Linux) or sampled every few milliseconds."""

    def __init__(self, device: torch.device) -> None:
        self.growth = 0
        self._device, self._process = device, psutil.Process()
        self._kernel_counts = False
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            self._kernel_counts = reset_peak_rss()
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
            if self._kernel_counts:
                self.growth = max(self.growth, peak_rss() - self._before)

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            with suppress(MemoryError):
                self.growth = max(self.growth, self._process.memory_info().rss - self._before)


def reset_peak_rss() -> bool:
    """Make the kernel count the peak of this process's resident set from now on; False where it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Documentation/filesystems/proc.rst
    except OSError:
        return False
    return True


@contextmanager
def limited_memory(available: int, device: torch.device) -> Iterator[None]:
    """On a CPU under Linux, make allocations beyond `available` bytes fail, instead of the kernel killing the process.

    Elsewhere it has no effect.
    """
    if device.type == "cuda" or sys.platform != "linux":
        yield
        return
    import resource

    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = psutil.Process().memory_info().data + available + HEADROOM + THREAD_STACK * torch.get_num_threads()
    limits = [limit, *(bound for bound in (before, hard) if bound != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is a failed allocation, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def memory_advice(
    needed: int | None, available: int, config: Config, fixed: int = 0, clips: int | None = None, device: str = "cpu"
) -> str:
    """A sentence with what does not fit and which settings to change.

    needed: bytes of a step, None where it failed before they were known. available: free bytes. fixed: bytes of
    `needed` that do not depend on the batch. clips: processed at once; default: `batch_size`.
    """
    training = config.training
    clips = clips or training.batch_size
    clips_per_update = training.batch_size * training.gradient_accumulation
    fits = clips // 2
    if needed is not None:
        fits = int((USABLE_FRACTION * available - fixed) * clips / max(1, needed - fixed))
    smaller = [size for size in range(1, min(fits, clips - 1) + 1) if clips_per_update % size == 0]
    options = []
    if smaller:
        options.append(
            f"training.batch_size={smaller[-1]} with training.gradient_accumulation={clips_per_update // smaller[-1]} "
            f"(still {clips_per_update} clips per update)"
        )
    if not training.use_gradient_checkpointing:
        options.append("training.use_gradient_checkpointing=true")
    if not training.use_amp:
        options.append("training.use_amp=true")
    if not smaller:
        widest = [override.partition("=")[0] for override in config.model.larger()[-1:]]
        options.append(f"a smaller {' or '.join(['data.sequence_length', *widest])}")
    memory = "GPU memory" if device == "cuda" else "memory"
    need = f"more than the free {size_text(available)} of {memory}"
    if needed is not None:
        need = f"{size_text(needed)} of {memory}, but {size_text(available)} are free"
    return f"a step with training.batch_size = {training.batch_size} needs {need}; set {', or '.join(options)}"
