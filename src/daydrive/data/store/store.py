"""The prepared drives on disk: a Lance table of frames and `store.json`, which says what the rows mean.

    <store>/frames.lance   image (JPEG), action float32[4], time, drive, frame, the source's own values
    <store>/store.json     metadata; and the table's version that they describe; the store is valid when it is there

A row is a frame; the rows of a drive are contiguous and in order. `action` of a row is what the driver did from its
frame to the next.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from daydrive.data.store.drives import MANY, SPLITS, UNUSED, DriveInfo, Drives, columns, entries
from daydrive.errors import UserError, did_you_mean
from daydrive.files import write_json
from daydrive.locations import (
    Location,
    UnreachableError,
    exists,
    is_remote,
    location,
    object_store_errors,
    storage_options,
)
from daydrive.types import ACTION_NAMES

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

__all__ = ["SPLITS", "UNUSED", "ConcatStore", "DriveInfo", "Store", "read_metadata", "write_metadata"]

FORMAT_VERSION = 1
NEWEST_VERSION = 2
"""Of stores with their drives in columns, and of mixes."""

METADATA_FILE = "store.json"
TABLE = "frames.lance"
AGAIN = "prepare it again with --overwrite"
MIX_AGAIN = "make it again with `daydrive data merge`"

Rows = npt.NDArray[np.int64]
Actions = npt.NDArray[np.float32]


class Store:
    """A prepared data set. Opening reads `store.json` alone; the table is opened at the first read, in the process
    that reads, and other processes get the path only.

    Examples:
        >>> import daydrive
        >>> store = daydrive.Store.open("data/processed/road")
        >>> store.hz, store.image_size, len(store.drives)
        (10.0, (64, 64), 8)
        >>> [(drive.start, drive.frames) for drive in store.split("val")]
        [(48, 24), (72, 24)]

    members: the stores whose rows these are, one after the other; itself alone but for a mix. weights: of each, how
    often its clips come in a training, relative to their number.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], drives: Drives | None = None) -> None:
        self.path = path
        self._metadata = metadata
        self.hz = float(metadata["hz"])
        self.image_size: tuple[int, int] = (int(metadata["image_size"][0]), int(metadata["image_size"][1]))
        self.pixel_aspect = float(metadata.get("pixel_aspect", 1.0))
        self.source = str(metadata["source"])
        self.fingerprint = str(metadata["fingerprint"])
        self.drives = Drives.read(metadata["drives"]) if drives is None else drives
        self.rows = self.drives.rows
        self.members: list[Store] = [self]
        self.weights: list[float] = [1.0]
        if not all(0 < value < math.inf for value in (self.hz, self.pixel_aspect, *self.image_size)):
            raise ValueError("hz, pixel_aspect and image_size are positive")

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """The store, or the mix of stores, at a path or URL; UserError where there is none or it can't be read."""
        path = location(path)
        metadata = read_metadata(path)
        if "members" in metadata:
            return ConcatStore.of(path, metadata)
        if not is_remote(path) and not (path / TABLE).is_dir():
            raise UserError(f"the store {path} has lost its table {TABLE}; {AGAIN}")
        try:
            return cls(path, metadata)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path / METADATA_FILE} is not a store's metadata ({error!r}); {AGAIN}") from error

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """All of `store.json`, its drives as a list."""
        return {**self._metadata, "drives": entries(self._metadata["drives"])}

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.dataset.schema

    def refuse_mix(self, why: str) -> None:
        """UserError for a mix, `which …`: what it can't and what to do instead."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store.open, (str(self.path),))

    def split(self, name: str) -> list[DriveInfo]:
        """The drives of a split; UserError for a split's name that does not exist."""
        if name not in SPLITS:
            raise UserError(f"there is no split '{name}'{did_you_mean(name, SPLITS)}")
        return [self.drives[int(place)] for place in self.drives.of_split(name)]

    def clip_hz(self, frame_skip: int) -> float:
        """Frames a second of clips whose frames are `frame_skip` apart."""
        return self.hz / frame_skip

    def locate(self, row: int) -> tuple[DriveInfo, int]:
        """The drive that a row belongs to, and its frame's index in that drive."""
        drive = self.drives[int(self.drives.at(row))]
        return drive, row - drive.start

    @cached_property
    def dataset(self) -> lance.LanceDataset:
        """The Lance table, opened here and now in this process."""
        import lance

        version = self._metadata.get("table_version")
        with self._reading():
            dataset = lance.dataset(str(self.path / TABLE), version=version, storage_options=storage_options(self.path))
            rows = dataset.count_rows()
        if rows != self.rows:
            raise UserError(
                f"the store {self.path} is truncated: its table has {rows} rows where {METADATA_FILE} "
                f"says {self.rows}; {AGAIN}"
            )
        return dataset

    def read(self, rows: npt.ArrayLike) -> tuple[list[bytes], Actions]:
        """JPEG bytes and actions, float32 (N, 4), of rows in any order, repeats allowed, with one read of the table."""
        table, back = self._take(rows, ["image", "action"])
        images = table.column("image").to_pylist()
        return [images[i] for i in back], _actions(table)[back]

    def read_actions(self, rows: npt.ArrayLike) -> Actions:
        """Actions alone, float32 (N, 4), without touching the pictures."""
        table, back = self._take(rows, ["action"])
        return _actions(table)[back]

    def read_values(self, rows: npt.ArrayLike, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The named columns of rows: `time` (s), `drive`, `frame`, or any of the source's own values."""
        known = self.schema.names
        for name in names:
            if name not in known:
                raise UserError(f"the store {self.path} has no column '{name}'{did_you_mean(name, known)}")
        table, back = self._take(rows, list(names))
        return {name: table.column(name).to_numpy()[back] for name in names}

    def _take(self, rows: npt.ArrayLike, columns: list[str]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
        unique, back = np.unique(np.asarray(rows, dtype=np.int64).reshape(-1), return_inverse=True)
        if len(unique) and (unique[0] < 0 or unique[-1] >= self.rows):
            raise UserError(f"the store {self.path} has rows 0 to {self.rows - 1}, not {unique[0]} to {unique[-1]}")
        return self._read_rows(unique, columns), back

    def _read_rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        """Of different rows, ascending."""
        dataset = self.dataset
        with self._reading():
            return dataset.take(rows, columns=columns)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Lance's panics are no Exceptions
            reason = str(error).split("\n")[0].split(", /")[0].strip()[:200]
            if is_remote(self.path):
                raise UnreachableError(f"the table of the store {self.path} cannot be read ({reason})") from error
            raise UserError(f"the table of the store {self.path} is damaged ({reason}); {AGAIN}") from error


class ConcatStore(Store):
    """Several stores as one: a folder whose `store.json` names them, with a weight for each.

        {"format_version": 2, "fingerprint": …, "members": [{"name": …, "path": …, "fingerprint": …, "weight": 1.0}, …]}

    Nothing is copied. The rows are those of the members one after the other; the columns are those that all of them
    have. names: of the members, which prefix those of their drives.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], members: list[Store]) -> None:
        first = members[0]
        self.names = [str(member["name"]) for member in metadata["members"]]
        drives = Drives.joined([(name, member.drives) for name, member in zip(self.names, members, strict=True)])
        common = {"hz": first.hz, "image_size": first.image_size, "pixel_aspect": first.pixel_aspect}
        sources = ", ".join(dict.fromkeys(member.source for member in members))
        super().__init__(path, {**common, "source": sources, **metadata}, drives)
        self.members = members
        self.weights = [float(member["weight"]) for member in metadata["members"]]
        self._offsets = np.cumsum([0, *(member.rows for member in members)])
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError("weights are positive")

    @classmethod
    def of(cls, path: Path, metadata: dict[str, Any]) -> ConcatStore:
        """The mix that `store.json` at `path` describes; UserError where a member is gone or another than it was."""
        try:
            told = [(str(m["name"]), str(m["path"]), str(m["fingerprint"])) for m in metadata["members"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path / METADATA_FILE} is not the metadata of a mix ({error!r}); {MIX_AGAIN}") from error
        members = []
        for name, place, fingerprint in told:
            try:
                member = Store.open(place)
            except UserError as error:
                raise UserError(f"the mix {path} can't open its member '{name}': {error}") from error
            if member.fingerprint != fingerprint:
                raise UserError(f"the store {place} is another than when the mix {path} was made of it; {MIX_AGAIN}")
            members.append(member)
        try:
            return cls(path, metadata, members)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path / METADATA_FILE} is not the metadata of a mix ({error!r}); {MIX_AGAIN}") from error

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """That of the mix; `values` and `scores` of the members; all drives."""
        told: dict[str, Any] = {**self._metadata}
        for key in ("values", "scores"):
            told[key] = {n: said for member in self.members for n, said in member.metadata.get(key, {}).items()}
        told["drives"] = [
            {**entry, "name": f"{name}/{entry['name']}", "start": entry["start"] + int(offset)}
            for name, member, offset in zip(self.names, self.members, self._offsets[:-1], strict=True)
            for entry in member.metadata["drives"]
        ]
        return told

    @property
    def dataset(self) -> lance.LanceDataset:
        raise self._error("has no table of its own; name one of its stores")

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns that all members have, of a type that holds the numbers of all."""
        import pyarrow as pa

        first, *others = [member.schema for member in self.members]
        fields = []
        for field in first:
            if all(field.name in other.names for other in others):
                same = [pa.schema([pa.field(field.name, s.field(field.name).type)]) for s in (first, *others)]
                try:
                    fields.append(pa.unify_schemas(same, promote_options="permissive").field(0))
                except (pa.ArrowTypeError, pa.ArrowInvalid):
                    continue
        return pa.schema(fields)

    def _read_rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        parts = []
        schema = pa.schema([self.schema.field(name) for name in columns])
        edges = np.searchsorted(rows, self._offsets)
        for k, member in enumerate(self.members):
            mine = rows[edges[k] : edges[k + 1]] - self._offsets[k]
            if len(mine):
                part = member._read_rows(mine, columns).cast(schema)
                if "drive" in columns:
                    place = columns.index("drive")
                    names = pc.binary_join_element_wise(self.names[k], part.column(place), "/")
                    part = part.set_column(place, schema.field(place), names)
                parts.append(part)
        return pa.concat_tables(parts) if parts else schema.empty_table()

    def refuse_mix(self, why: str) -> NoReturn:
        raise self._error(why)

    def _error(self, why: str) -> UserError:
        return UserError(f"{self.path} is a mix of {len(self.members)} stores, which {why}")


def read_metadata(path: Location) -> dict[str, Any]:
    """`store.json` of a store as it is written; UserError where the folder is missing, foreign, damaged or of a newer
    version. `drives.entries` makes a list of its drives."""
    if not exists(path):
        raise UserError(
            f"there is no store at {path}; make one with "
            f"`python scripts/prepare_dataset.py --dataset <name> --data-root <folder> --output {path}`"
        )
    file = path / METADATA_FILE
    if not exists(file):
        raise UserError(
            f"{path} is not a prepared store (it has no {METADATA_FILE}); make one from it with "
            f"`python scripts/prepare_dataset.py --dataset <name> --data-root {path} --output <store>`"
        )
    try:
        with object_store_errors(file):
            text = file.read_text(encoding="utf-8")
        metadata = json.loads(text)
        version = int(metadata["format_version"])
    except UnreachableError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read as a store's metadata; {AGAIN}") from error
    if version > NEWEST_VERSION:
        raise UserError(
            f"the store {path} has format version {version} and this daydrive reads up to {NEWEST_VERSION}; "
            f"update daydrive, or {AGAIN}"
        )
    return dict(metadata)


def write_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """`store.json` of the store at `path`; drives in columns where there are many."""
    drives = metadata["drives"]
    if isinstance(drives, list) and len(drives) > MANY:
        metadata = {**metadata, "format_version": NEWEST_VERSION, "drives": columns(drives)}
    write_json(path / METADATA_FILE, metadata)


def _actions(table: pa.Table) -> Actions:
    column = table.column("action").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, len(ACTION_NAMES))
