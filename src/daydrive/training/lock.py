"""One process at a time writes into a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daydrive.errors import UserError


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold `run/lock`, which the system lets go when the process ends, however it ends.

    Raises UserError naming pid and host of the process that holds it.
    """
    file = os.open(run / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{run} is being trained by {_holder(file)}; wait for it, or name another folder") from None
        os.ftruncate(file, 0)
        os.write(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        os.close(file)


def _holder(file: int) -> str:
    try:
        told = json.loads(os.pread(file, 1000, 0))
        return f"process {told['pid']} on {told['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
