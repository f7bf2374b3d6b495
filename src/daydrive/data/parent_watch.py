"""Ends worker processes when the process that started them ends, even if it is killed.

The parent of a worker is the fork server, which lives as long as its workers. Without this watch, both would keep
running, with half a gigabyte of memory each.
"""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Start watching the parent; call once in a worker process. Returns immediately."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
