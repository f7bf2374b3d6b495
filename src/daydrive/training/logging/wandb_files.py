"""What W&B's own files already hold of a run.

W&B writes behind: a killed process loses what it logged last, and each process writes a file of its own. Reading them
back is the only way to know. A file is 7 bytes of header and then LevelDB's log format, whose records are protobufs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER, _BLOCK = 7, 32768
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4


def last_step(folder: Path, run_id: str) -> int:
    """The last step in the `.wandb` files of a run below `folder`; -1 where there is none."""
    files = [file for file in folder.glob("*run-*/*.wandb") if file.name == f"run-{run_id}.wandb"]
    return max((step for file in files for step in _steps(file)), default=-1)


def read_records(file: Path) -> Iterator[Any]:
    """The records (`wandb_internal_pb2.Record`) of a `.wandb` file, up to where its writer was killed."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # chosen at run time

    data, place, body = file.read_bytes(), _HEADER, b""
    while place + _CHUNK.size <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _CHUNK.size:
            place += left
            continue
        _, length, kind = _CHUNK.unpack_from(data, place)
        place += _CHUNK.size
        chunk = data[place : place + length]
        if kind == 0 or len(chunk) < length:
            return
        place += length
        body = chunk if kind in (_FULL, _FIRST) else body + chunk
        if kind in (_FULL, _LAST):
            yield Record.FromString(body)


def _steps(file: Path) -> Iterator[int]:
    for record in read_records(file):
        if record.HasField("history"):
            yield record.history.step.num
