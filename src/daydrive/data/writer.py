"""The parts of a preparation put together as a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from daydrive.data import parts
from daydrive.data.images import JPEG_QUALITY
from daydrive.data.store import FORMAT_VERSION, METADATA_FILE, TABLE
from daydrive.files import write_json


@dataclass(frozen=True)
class Piece:
    """Rows [start, stop) of a part file that become a drive of the store; made_from as in `Drive`."""

    file: Path
    name: str
    split: str
    start: int
    stop: int
    made_from: Mapping[str, str] = field(default_factory=dict)


def write_store(
    target: Path, pieces: Sequence[Piece], values: Sequence[str], metadata: dict[str, Any]
) -> dict[str, Any]:
    """Writes the folder `target` (which must not exist) from parts, a batch at a time, and returns its metadata."""
    import lance

    target.mkdir()
    content = _Content()
    schema = _schema(values)
    reader = pa.RecordBatchReader.from_batches(schema, _batches(pieces, schema, content.add))
    lance.write_dataset(reader, str(target / TABLE), schema=schema, mode="create")
    drives: list[dict[str, Any]] = []
    start = 0
    for piece in pieces:
        frames = piece.stop - piece.start
        entry = {"name": piece.name, "split": piece.split, "start": start, "frames": frames}
        drives.append({**entry, "made_from": dict(piece.made_from)} if piece.made_from else entry)
        start += frames
    complete = {
        "format_version": FORMAT_VERSION,
        **metadata,
        "jpeg_quality": JPEG_QUALITY,
        "frames": start,
        "repeated_frames": content.repeated,
        "fingerprint": content.fingerprint(drives, metadata),
        "drives": drives,
    }
    write_json(target / METADATA_FILE, complete)
    return complete


class _Content:
    """Fingerprint of the rows, and how many pictures are the same as the one before in their drive."""

    def __init__(self) -> None:
        self.repeated = 0
        self._hash = hashlib.sha256()
        self._last: bytes | None = None

    def add(self, batch: pa.RecordBatch, first: bool) -> None:
        images = batch.column("image").to_pylist()
        last = None if first else self._last
        for image in images:
            self.repeated += image == last
            self._hash.update(len(image).to_bytes(8, "little"))
            self._hash.update(image)
            last = image
        self._last = last
        for name in batch.schema.names:
            if name not in ("image", "drive"):
                column = batch.column(name)
                flat = column.flatten() if name == "action" else column
                self._hash.update(flat.to_numpy(zero_copy_only=False).tobytes())

    def fingerprint(self, drives: list[dict[str, Any]], metadata: dict[str, Any]) -> str:
        meaning = {"drives": drives, "hz": metadata["hz"], "image_size": metadata["image_size"]}
        self._hash.update(json.dumps(meaning, sort_keys=True).encode())
        return self._hash.hexdigest()[:32]


def _schema(values: Sequence[str]) -> pa.Schema:
    part = parts.schema(values)
    return pa.schema([*part, pa.field("drive", pa.string()), pa.field("frame", pa.int32())])


def _batches(
    pieces: Sequence[Piece], schema: pa.Schema, see: Callable[[pa.RecordBatch, bool], None]
) -> Iterator[pa.RecordBatch]:
    for piece in pieces:
        frame, began = 0, 0.0
        for batch in parts.part_batches(piece.file, piece.start, piece.stop):
            times = batch.column("time").to_numpy()
            if frame == 0:
                began = float(times[0])
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns["time"] = pa.array(times - began)
            columns["drive"] = pa.array([piece.name] * batch.num_rows, pa.string())
            columns["frame"] = pa.array(range(frame, frame + batch.num_rows), pa.int32())
            whole = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
            see(whole, frame == 0)
            yield whole
            frame += batch.num_rows
