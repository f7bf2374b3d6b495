"""Worker processes end with the process that started them, also when that one is killed.

A worker of a fork server keeps the server alive, which is the only parent it sees, so that neither notices: what they
hold, half a gigabyte each, would stay for ever.
"""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """Call once in a worker process; returns at once."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
