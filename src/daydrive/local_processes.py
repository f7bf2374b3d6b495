"""Processes of this machine that work together, started by the program itself: one per core, without torchrun.

Threads of one process wait for each other at every small operation, so beside any other busy program they are slower
than a single one; processes meet once a step.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from daydrive.distributed import FAILED, RENDEZVOUS, launched_processes
from daydrive.errors import UserError
from daydrive.processor import processors

AUTO = "auto"
GRACE_SECONDS = 10.0
"""Time in which the other processes may end on their own, before they are killed."""

_START = "from daydrive.local_processes import run_task; run_task()"


def usable_cores() -> int:
    """Cores that this process may use: all of the machine, or OMP_NUM_THREADS of them."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return min(processors(), int(threads)) if threads.isdigit() and int(threads) else processors()


def count_processes(asked: str, device: torch.device, clips: int | None = None) -> int:
    """The number of processes for `--processes`.

    asked: a number or `auto`, which is one per core on a CPU, and a single one on a GPU, under torchrun or Slurm and in
    a debugger. clips: of a batch that the processes have to divide evenly; `auto` selects the largest such number.
    Raises UserError for anything else.
    """
    if asked == AUTO:
        if device.type != "cpu" or launched_processes() > 1 or sys.gettrace() is not None:
            return 1
        return max(count for count in range(1, usable_cores() + 1) if clips is None or clips % count == 0)
    if not asked.isdigit() or int(asked) < 1:
        raise UserError(f"--processes {asked}: use a number from 1, or auto for one per core")
    count = int(asked)
    if count == 1:
        return 1
    if launched_processes() > 1:
        raise UserError("--processes is for a single command; torchrun and Slurm have started their processes already")
    if device.type != "cpu":
        raise UserError(f"--processes {asked}: is for CPUs; for GPUs use torchrun --nproc_per_node={asked}")
    if clips is not None and clips % count:
        fitting = ", ".join(str(number) for number in range(1, clips + 1) if clips % number == 0)
        raise UserError(f"--processes {asked}: cannot divide a batch of {clips} clips evenly; use {fitting} or auto")
    return count


@contextmanager
def local_processes(count: int, task: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Run `task(*arguments)` in `count - 1` further processes while this context lasts. This process is rank 0 and has
    to join them by `distributed.process_group`.

    Each process gets an equal share of the cores as its threads. The others end when this one does, even if it is
    killed, and get no signals from the terminal. A failure in one of them is reported there and ends this process.
    task: a function of a module; the arguments are pickled.
    """
    if count == 1:
        yield
        return
    threads = max(1, usable_cores() // count)
    with tempfile.TemporaryDirectory(prefix="daydrive-") as folder:
        common = {
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "GLOO_SOCKET_IFNAME": _loopback(),
            RENDEZVOUS: (Path(folder) / "rendezvous").as_uri(),
        }
        others: list[subprocess.Popen[bytes]] = []
        with _environment({**common, "RANK": "0", "LOCAL_RANK": "0"}), threads_of_this_process(threads):
            try:
                finished = threading.Event()
                for rank in range(1, count):
                    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": str(threads)}
                    others.append(_start({**os.environ, **own}, task, arguments))
                    watch = (others[-1], f"process {rank} of {count}", finished)
                    threading.Thread(target=_end_with, args=watch, daemon=True).start()
                yield
            except BaseException:
                finished.set()
                _end(others, wait=False)
                raise
            finished.set()
            _end(others, wait=True)


@contextmanager
def single_process() -> Iterator[None]:
    """Continue in this process alone, with all cores, inside `local_processes`."""
    variables = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1")
    with _environment(variables), threads_of_this_process(usable_cores()):
        yield


@contextmanager
def threads_of_this_process(count: int) -> Iterator[None]:
    """PyTorch computes with `count` threads while this context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_task() -> None:
    """Entry point of further processes: read the task from standard input, whose end means that rank 0 has ended."""
    task, arguments = pickle.load(sys.stdin.buffer)  # written by `_start` of the same program
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    try:
        code = task(*arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else 0)


def _exit_at_end_of_input() -> None:
    while os.read(sys.stdin.fileno(), 1):
        continue
    os._exit(FAILED)


def _start(
    environment: Mapping[str, str], task: Callable[..., object], arguments: tuple[object, ...]
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _START], stdin=subprocess.PIPE, env=dict(environment), process_group=0
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps((task, arguments)))
    process.stdin.flush()
    return process


def _end_with(process: subprocess.Popen[bytes], name: str, finished: threading.Event) -> None:
    """End this process if the other one fails and this one does not notice it, because it does not wait for it."""
    if process.wait() and not finished.wait(GRACE_SECONDS):
        print(f"error: {name} ended without a result (killed or out of memory?)", file=sys.stderr, flush=True)
        os._exit(FAILED)


def _end(others: list[subprocess.Popen[bytes]], wait: bool) -> None:
    """End the processes: let them finish first with `wait`."""
    for process in others:
        if wait:
            _wait(process)
        assert process.stdin is not None
        process.stdin.close()
        if not _wait(process):
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[Any]) -> bool:
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _loopback() -> str:
    """The name of the interface with the address 127.0.0.1, so that nothing is reachable from other machines."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(a.family == socket.AF_INET and a.address == "127.0.0.1" for a in addresses):
            return name
    return "lo"


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
