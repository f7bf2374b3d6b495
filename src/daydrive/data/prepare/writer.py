"""The parts of a preparation put together as a store."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from daydrive.data.prepare import shards
from daydrive.data.store.store import FORMAT_VERSION, TABLE, Store, write_metadata
from daydrive.locations import Location, exists, is_remote, object_store_errors, storage_options

if TYPE_CHECKING:
    import lance

KEPT = timedelta(hours=1)
"""How long what was replaced stays for those that are about to read it."""


@dataclass(frozen=True)
class Piece:
    """Rows [start, stop) of a part file that become a drive of the store; made_from and group as in `Drive`."""

    file: Path
    name: str
    split: str
    start: int
    stop: int
    made_from: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    origin: int = 0
    """place in the store's `origins`"""


def write_store(
    target: Location, pieces: Sequence[Piece], values: Sequence[str], metadata: dict[str, Any]
) -> dict[str, Any]:
    """Writes a store from parts, a batch at a time, and returns its metadata.

    On this machine `target` must not exist. What is at `target` on an object store stays readable until the new
    metadata are there, which is the last step.
    """
    if not is_remote(target):
        target.mkdir()
    content = _Content()
    schema = _schema(values)
    mode = "overwrite" if is_remote(target) and exists(target / TABLE) else "create"
    dataset = _write_rows(target, _batches(pieces, schema, content.add), schema, mode)
    drives = _entries(pieces)
    complete = {
        "format_version": FORMAT_VERSION,
        **metadata,
        "frames": sum(drive["frames"] for drive in drives),
        "repeated_frames": content.repeated,
        "fingerprint": content.fingerprint(drives, metadata),
        "table_version": dataset.version,
        "drives": drives,
    }
    write_metadata(target, complete)
    return complete


def append_to_store(store: Store, pieces: Sequence[Piece], changes: dict[str, Any]) -> dict[str, Any]:
    """Puts parts behind the rows of a store as a new version of its table, and returns the new metadata.

    The table's files that are there stay as they are, and the store stays what it was until its metadata are swapped.
    Columns that the parts don't have, such as scores, are NaN in the new rows. changes: metadata to replace.
    """
    before = store.metadata
    content = _Content(before["fingerprint"])
    dataset = current_table(store)
    schema = dataset.schema
    written = _write_rows(store.path, _batches(pieces, schema, content.add), schema, "append")
    added = _entries(pieces, store.rows)
    drives = [*before["drives"], *added]
    complete = {
        **before,
        **changes,
        "frames": store.rows + sum(drive["frames"] for drive in added),
        "repeated_frames": before["repeated_frames"] + content.repeated,
        "fingerprint": content.fingerprint(added, before),
        "table_version": written.version,
        "drives": drives,
    }
    if "content_fingerprint" in before:
        told = [before["content_fingerprint"], complete["fingerprint"]]
        complete["content_fingerprint"] = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]
    write_metadata(store.path, complete)
    written.cleanup_old_versions(older_than=KEPT)
    return complete


def current_table(store: Store) -> lance.LanceDataset:
    """The store's table to be written to; versions that a writer who was ended left behind are put aside."""
    dataset = store.dataset
    if dataset.latest_version != dataset.version:
        dataset.restore()
    return dataset


def _write_rows(
    target: Location, batches: Iterator[pa.RecordBatch], schema: pa.Schema, mode: str
) -> lance.LanceDataset:
    import lance

    reader = pa.RecordBatchReader.from_batches(schema, batches)
    place, options = str(target / TABLE), storage_options(target)
    with object_store_errors(target):
        return lance.write_dataset(reader, place, schema=schema, mode=mode, storage_options=options)


def _entries(pieces: Sequence[Piece], start: int = 0) -> list[dict[str, Any]]:
    """What `store.json` says of the drives that begin with row `start`."""
    entries: list[dict[str, Any]] = []
    for piece in pieces:
        frames = piece.stop - piece.start
        entry: dict[str, Any] = {"name": piece.name, "split": piece.split, "start": start, "frames": frames}
        entry |= {"made_from": dict(piece.made_from)} if piece.made_from else {}
        entry |= {"group": piece.group} if piece.group is not None else {}
        entries.append(entry | ({"origin": piece.origin} if piece.origin else {}))
        start += frames
    return entries


class _Content:
    """Fingerprint of rows after what is there, and how many pictures are the same as the one before in their drive."""

    def __init__(self, before: str = "") -> None:
        self.repeated = 0
        self._hash = hashlib.sha256(before.encode())
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
        told = [{key: value for key, value in drive.items() if key != "group"} for drive in drives]
        meaning = {"drives": told, "hz": metadata["hz"], "image_size": metadata["image_size"]}
        self._hash.update(json.dumps(meaning, sort_keys=True).encode())
        return self._hash.hexdigest()[:32]


def _schema(values: Sequence[str]) -> pa.Schema:
    part = shards.schema(values)
    return pa.schema([*part, pa.field("drive", pa.string()), pa.field("frame", pa.int32())])


def _batches(
    pieces: Sequence[Piece], schema: pa.Schema, see: Callable[[pa.RecordBatch, bool], None]
) -> Iterator[pa.RecordBatch]:
    for piece in pieces:
        frame, began = 0, 0.0
        for batch in shards.part_batches(piece.file, piece.start, piece.stop):
            times = batch.column("time").to_numpy()
            if frame == 0:
                began = float(times[0])
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns["time"] = pa.array(times - began)
            columns["drive"] = pa.array([piece.name] * batch.num_rows, pa.string())
            columns["frame"] = pa.array(range(frame, frame + batch.num_rows), pa.int32())
            for lacking in (column for column in schema if column.name not in columns):
                columns[lacking.name] = pa.array([math.nan] * batch.num_rows, lacking.type)
            whole = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
            see(whole, frame == 0)
            yield whole
            frame += batch.num_rows
