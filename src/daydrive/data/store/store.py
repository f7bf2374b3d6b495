"""Prepared drives on disk: a Lance table of frames, and `store.json` with their metadata.

    <store>/frames.lance   image (JPEG), action float32[4], time, drive, frame, further values of the source
    <store>/store.json     metadata, including the version of the table they describe; written last

A row is a frame; the rows of a drive are contiguous and in order. `action` of a row is the action from its frame to the
next.
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

from daydrive.data.store.drives import COLUMNS_FROM, SPLITS, UNUSED, DriveInfo, Drives, columns, entries
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
"""For stores with their drives in columns, and for merged stores."""

METADATA_FILE = "store.json"
TABLE = "frames.lance"
AGAIN = "prepare it again with --overwrite"
MERGE_AGAIN = "create it again with `daydrive data merge`"

Rows = npt.NDArray[np.int64]
Actions = npt.NDArray[np.float32]


class Store:
    """A prepared dataset.

    Opening reads only `store.json`; the table is opened at the first read, in the reading process. Pickling transfers
    only the path. members: the stores that make up the rows, in order; only the store itself unless it is merged.
    weights: of each member, how often its clips are sampled in training, relative to their number.

    Examples:
        >>> import daydrive
        >>> store = daydrive.Store.open("data/processed/road")
        >>> store.hz, store.image_size, len(store.drives)
        (10.0, (64, 64), 8)
        >>> [(drive.start, drive.frames) for drive in store.split("val")]
        [(48, 24), (72, 24)]
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
            raise ValueError("hz, pixel_aspect and image_size must be positive")

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Open a store or a merged store by path or URL. Raises UserError if there is none or it is damaged."""
        path = location(path)
        metadata = read_metadata(path)
        if "members" in metadata:
            return ConcatStore.of(path, metadata)
        if not is_remote(path) and not (path / TABLE).is_dir():
            raise UserError(f"the store {path} has no table {TABLE}; {AGAIN}")
        try:
            return cls(path, metadata)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path / METADATA_FILE} is not a store's metadata ({error!r}); {AGAIN}") from error

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The content of `store.json`, with the drives as a list."""
        return {**self._metadata, "drives": entries(self._metadata["drives"])}

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table."""
        return self.dataset.schema

    def require_single_store(self, why: str) -> None:
        """Raise UserError for a merged store. why: continues "<store> merges N stores and …"."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Store.open, (str(self.path),))

    def split(self, name: str) -> list[DriveInfo]:
        """The drives of a split. Raises UserError for an unknown split."""
        if name not in SPLITS:
            raise UserError(f"there is no split '{name}'{did_you_mean(name, SPLITS)}")
        return [self.drives[int(index)] for index in self.drives.of_split(name)]

    def clip_hz(self, frame_skip: int) -> float:
        """Frames a second of clips whose frames are `frame_skip` apart."""
        return self.hz / frame_skip

    def locate(self, row: int) -> tuple[DriveInfo, int]:
        """The drive that a row belongs to, and the index of its frame within the drive."""
        drive = self.drives[int(self.drives.at(row))]
        return drive, row - drive.start

    @cached_property
    def dataset(self) -> lance.LanceDataset:
        """The Lance table, opened in this process on first use."""
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
        """JPEG bytes and actions, float32 (N, 4), of rows in any order, with repeats, in one read of the table."""
        table, inverse = self._take(rows, ["image", "action"])
        images = table.column("image").to_pylist()
        return [images[i] for i in inverse], _actions(table)[inverse]

    def read_actions(self, rows: npt.ArrayLike) -> Actions:
        """Actions, float32 (N, 4), without reading the images."""
        table, inverse = self._take(rows, ["action"])
        return _actions(table)[inverse]

    def read_values(self, rows: npt.ArrayLike, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """The named columns of rows: `time` (s), `drive`, `frame`, or any further value of the source."""
        known = self.schema.names
        for name in names:
            if name not in known:
                raise UserError(f"the store {self.path} has no column '{name}'{did_you_mean(name, known)}")
        table, inverse = self._take(rows, list(names))
        return {name: table.column(name).to_numpy()[inverse] for name in names}

    def _take(self, rows: npt.ArrayLike, columns: list[str]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
        unique, inverse = np.unique(np.asarray(rows, dtype=np.int64).reshape(-1), return_inverse=True)
        if len(unique) and (unique[0] < 0 or unique[-1] >= self.rows):
            raise UserError(f"the store {self.path} has rows 0 to {self.rows - 1}, not {unique[0]} to {unique[-1]}")
        return self._read_rows(unique, columns), inverse

    def _read_rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        """Read distinct rows in ascending order."""
        dataset = self.dataset
        with self._reading():
            return dataset.take(rows, columns=columns)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Lance's panics are not Exceptions
            reason = str(error).split("\n")[0].split(", /")[0].strip()[:200]
            if is_remote(self.path):
                raise UnreachableError(f"the table of the store {self.path} cannot be read ({reason})") from error
            raise UserError(f"the table of the store {self.path} is damaged ({reason}); {AGAIN}") from error


class ConcatStore(Store):
    """Several stores as one: a folder whose `store.json` lists them with their weights.

        {"format_version": 2, "fingerprint": …, "members": [{"name": …, "path": …, "fingerprint": …, "weight": 1.0}, …]}

    No data is copied. The rows are those of the member stores in order; the columns are those common to all of them.
    names: of the members; they prefix the names of their drives.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], members: list[Store]) -> None:
        first = members[0]
        self.names = [str(member["name"]) for member in metadata["members"]]
        drives = Drives.concatenate([(name, member.drives) for name, member in zip(self.names, members, strict=True)])
        common = {"hz": first.hz, "image_size": first.image_size, "pixel_aspect": first.pixel_aspect}
        sources = ", ".join(dict.fromkeys(member.source for member in members))
        super().__init__(path, {**common, "source": sources, **metadata}, drives)
        self.members = members
        self.weights = [float(member["weight"]) for member in metadata["members"]]
        self._offsets = np.cumsum([0, *(member.rows for member in members)])
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError("weights must be positive")

    @classmethod
    def of(cls, path: Path, metadata: dict[str, Any]) -> ConcatStore:
        """Open the merged store at `path`. Raises UserError if a member is missing or has changed."""
        try:
            entries = [(str(m["name"]), str(m["path"]), str(m["fingerprint"])) for m in metadata["members"]]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path / METADATA_FILE} is not the metadata of a merged store ({error!r}); {MERGE_AGAIN}"
            ) from error
        members = []
        for name, member_path, fingerprint in entries:
            try:
                member = Store.open(member_path)
            except UserError as error:
                raise UserError(f"the merged store {path} cannot open its member '{name}': {error}") from error
            if member.fingerprint != fingerprint:
                raise UserError(
                    f"the store {member_path} has changed since the merged store {path} was created; {MERGE_AGAIN}"
                )
            members.append(member)
        try:
            return cls(path, metadata, members)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"{path / METADATA_FILE} is not the metadata of a merged store ({error!r}); {MERGE_AGAIN}"
            ) from error

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the merged store, with `values`, `scores` and drives of the members."""
        metadata: dict[str, Any] = {**self._metadata}
        for key in ("values", "scores"):
            metadata[key] = {n: text for member in self.members for n, text in member.metadata.get(key, {}).items()}
        metadata["drives"] = [
            {**entry, "name": f"{name}/{entry['name']}", "start": entry["start"] + int(offset)}
            for name, member, offset in zip(self.names, self.members, self._offsets[:-1], strict=True)
            for entry in member.metadata["drives"]
        ]
        return metadata

    @property
    def dataset(self) -> lance.LanceDataset:
        raise self._error("has no table of its own; use one of its members")

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns common to all members, with a type that can represent the values of all."""
        import pyarrow as pa

        first, *others = [member.schema for member in self.members]
        fields = []
        for field in first:
            if all(field.name in other.names for other in others):
                candidates = [pa.schema([pa.field(field.name, s.field(field.name).type)]) for s in (first, *others)]
                try:
                    fields.append(pa.unify_schemas(candidates, promote_options="permissive").field(0))
                except (pa.ArrowTypeError, pa.ArrowInvalid):
                    continue
        return pa.schema(fields)

    def _read_rows(self, rows: Rows, columns: list[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        tables = []
        schema = pa.schema([self.schema.field(name) for name in columns])
        edges = np.searchsorted(rows, self._offsets)
        for k, member in enumerate(self.members):
            member_rows = rows[edges[k] : edges[k + 1]] - self._offsets[k]
            if len(member_rows):
                table = member._read_rows(member_rows, columns).cast(schema)
                if "drive" in columns:
                    index = columns.index("drive")
                    names = pc.binary_join_element_wise(self.names[k], table.column(index), "/")
                    table = table.set_column(index, schema.field(index), names)
                tables.append(table)
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def require_single_store(self, why: str) -> NoReturn:
        raise self._error(why)

    def _error(self, why: str) -> UserError:
        return UserError(f"{self.path} merges {len(self.members)} stores and {why}")


def read_metadata(path: Location) -> dict[str, Any]:
    """Read `store.json` as written; `drives.entries` converts its drives to a list.

    Raises UserError if the folder is missing, not a store, damaged, or of a newer version.
    """
    if not exists(path):
        raise UserError(
            f"there is no store at {path}; create one with "
            f"`python scripts/prepare_dataset.py --dataset <name> --data-root <folder> --output {path}`"
        )
    file = path / METADATA_FILE
    if not exists(file):
        raise UserError(
            f"{path} is not a prepared store (it has no {METADATA_FILE}); create one from it with "
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
            f"the store {path} has format version {version} and this version of daydrive reads up to {NEWEST_VERSION}; "
            f"update daydrive, or {AGAIN}"
        )
    return dict(metadata)


def write_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Write `store.json` of the store at `path`, with the drives as columns if there are many."""
    drives = metadata["drives"]
    if isinstance(drives, list) and len(drives) > COLUMNS_FROM:
        metadata = {**metadata, "format_version": NEWEST_VERSION, "drives": columns(drives)}
    write_json(path / METADATA_FILE, metadata)


def _actions(table: pa.Table) -> Actions:
    column = table.column("action").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, len(ACTION_NAMES))
