"""Writing a store from shards."""

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

VERSION_RETENTION = timedelta(hours=1)
"""How long replaced versions of a table are retained for concurrent readers."""


@dataclass(frozen=True)
class DriveRows:
    """Rows [start, stop) of a shard that become a drive of the store; made_from and group as in `Drive`."""

    file: Path
    name: str
    split: str
    start: int
    stop: int
    made_from: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    origin: int = 0
    """Index into the `origins` of the store."""


def write_store(
    target: Location, drive_rows: Sequence[DriveRows], values: Sequence[str], metadata: dict[str, Any]
) -> dict[str, Any]:
    """Write a store from shards, one batch at a time, and return its metadata.

    A local `target` must not exist. An existing store on an object store stays readable until the new metadata are
    written as the last step.
    """
    if not is_remote(target):
        target.mkdir()
    content = _Content()
    schema = _schema(values)
    mode = "overwrite" if is_remote(target) and exists(target / TABLE) else "create"
    dataset = _write_rows(target, _batches(drive_rows, schema, content.add), schema, mode)
    drives = _entries(drive_rows)
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


def append_to_store(store: Store, drive_rows: Sequence[DriveRows], changes: dict[str, Any]) -> dict[str, Any]:
    """Append rows to a store as a new version of its table, and return the new metadata.

    Existing files are not modified, and the store is unchanged until its metadata are replaced. Columns that the
    shards lack, such as scores, are NaN in the new rows. changes: metadata to replace.
    """
    before = store.metadata
    content = _Content(before["fingerprint"])
    dataset = current_table(store)
    schema = dataset.schema
    written = _write_rows(store.path, _batches(drive_rows, schema, content.add), schema, "append")
    added = _entries(drive_rows, store.rows)
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
        identity = [before["content_fingerprint"], complete["fingerprint"]]
        complete["content_fingerprint"] = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    write_metadata(store.path, complete)
    written.cleanup_old_versions(older_than=VERSION_RETENTION)
    return complete


def current_table(store: Store) -> lance.LanceDataset:
    """The table of a store for writing; later versions left by an interrupted writer are discarded."""
    dataset = store.dataset
    if dataset.latest_version != dataset.version:
        dataset.restore()
    return dataset


def _write_rows(
    target: Location, batches: Iterator[pa.RecordBatch], schema: pa.Schema, mode: str
) -> lance.LanceDataset:
    import lance

    reader = pa.RecordBatchReader.from_batches(schema, batches)
    uri, options = str(target / TABLE), storage_options(target)
    with object_store_errors(target):
        return lance.write_dataset(reader, uri, schema=schema, mode=mode, storage_options=options)


def _entries(drive_rows: Sequence[DriveRows], start: int = 0) -> list[dict[str, Any]]:
    """The entries of `store.json` for drives from row `start` on."""
    entries: list[dict[str, Any]] = []
    for rows in drive_rows:
        frames = rows.stop - rows.start
        entry: dict[str, Any] = {"name": rows.name, "split": rows.split, "start": start, "frames": frames}
        entry |= {"made_from": dict(rows.made_from)} if rows.made_from else {}
        entry |= {"group": rows.group} if rows.group is not None else {}
        entries.append(entry | ({"origin": rows.origin} if rows.origin else {}))
        start += frames
    return entries


class _Content:
    """Fingerprint of the rows, chained to `before`, and number of images that repeat the previous one in a drive."""

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
        entries = [{key: value for key, value in drive.items() if key != "group"} for drive in drives]
        meaning = {"drives": entries, "hz": metadata["hz"], "image_size": metadata["image_size"]}
        self._hash.update(json.dumps(meaning, sort_keys=True).encode())
        return self._hash.hexdigest()[:32]


def _schema(values: Sequence[str]) -> pa.Schema:
    columns = shards.schema(values)
    return pa.schema([*columns, pa.field("drive", pa.string()), pa.field("frame", pa.int32())])


def _batches(
    drive_rows: Sequence[DriveRows], schema: pa.Schema, on_batch: Callable[[pa.RecordBatch, bool], None]
) -> Iterator[pa.RecordBatch]:
    for rows in drive_rows:
        frame, start_time = 0, 0.0
        for batch in shards.shard_batches(rows.file, rows.start, rows.stop):
            times = batch.column("time").to_numpy()
            if frame == 0:
                start_time = float(times[0])
            columns = {name: batch.column(name) for name in batch.schema.names}
            columns["time"] = pa.array(times - start_time)
            columns["drive"] = pa.array([rows.name] * batch.num_rows, pa.string())
            columns["frame"] = pa.array(range(frame, frame + batch.num_rows), pa.int32())
            for missing in (column for column in schema if column.name not in columns):
                columns[missing.name] = pa.array([math.nan] * batch.num_rows, missing.type)
            complete = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
            on_batch(complete, frame == 0)
            yield complete
            frame += batch.num_rows
