"""Several stores as one: a folder whose `store.json` lists them with their weights.

    {"format_version": 2, "fingerprint": …, "members": [{"name": …, "path": …, "fingerprint": …, "weight": 1.0}, …]}

No data is copied. The rows are those of the member stores in order; the columns are those common to all of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from daydrive.data.store.drives import Drives
from daydrive.data.store.store import METADATA_FILE, NEWEST_VERSION, Rows, Store
from daydrive.errors import UserError
from daydrive.files import check_folder, parents_made, replacing, write_json
from daydrive.locations import is_remote, location

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

AGAIN = "create it again with `daydrive data merge`"


class ConcatStore(Store):
    """A concatenation of stores. names: of the members; they prefix the names of their drives."""

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
                f"{path / METADATA_FILE} is not the metadata of a merged store ({error!r}); {AGAIN}"
            ) from error
        members = []
        for name, member_path, fingerprint in entries:
            try:
                member = Store.open(member_path)
            except UserError as error:
                raise UserError(f"the merged store {path} cannot open its member '{name}': {error}") from error
            if member.fingerprint != fingerprint:
                raise UserError(
                    f"the store {member_path} has changed since the merged store {path} was created; {AGAIN}"
                )
            members.append(member)
        try:
            return cls(path, metadata, members)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(
                f"{path / METADATA_FILE} is not the metadata of a merged store ({error!r}); {AGAIN}"
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


def merge(stores: Sequence[str | Path], output: Path, weights: Sequence[float] | None = None) -> ConcatStore:
    """Create a merged store at `output`, which must not exist. weights: of each store, see `Store`; default: 1.

    Raises UserError for incompatible stores.
    """
    locations = [location(store) for store in stores]
    if len(locations) < 2:
        raise UserError("merging needs at least two stores")
    weights = [1.0] * len(locations) if weights is None else weights
    if len(weights) != len(locations):
        raise UserError(f"--weights has {len(weights)} values for {len(locations)} stores; give one per store")
    if not all(0 < weight < math.inf for weight in weights):
        raise UserError(f"--weights {' '.join(f'{weight:g}' for weight in weights)}: weights must be above 0")
    paths = [path if is_remote(path) else path.absolute() for path in locations]
    opened = [Store.open(path) for path in paths]
    for path, store in zip(paths, opened, strict=True):
        _check_fit(opened[0], store)
        if paths.count(path) > 1:
            raise UserError(f"the store {path} is listed twice; give it a weight of 2 instead")
    if output.exists() or output.is_symlink():
        raise UserError(f"the output {output} already exists; choose another")
    check_folder(output.parent, "folder of --output")
    names = _names([path.name for path in paths])
    members = [
        {"name": name, "path": str(path), "fingerprint": store.fingerprint, "weight": float(weight)}
        for name, path, store, weight in zip(names, paths, opened, weights, strict=True)
    ]
    identity = json.dumps([[member[key] for key in ("name", "fingerprint", "weight")] for member in members])
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()[:32]
    metadata = {"format_version": NEWEST_VERSION, "fingerprint": fingerprint, "members": members}
    with parents_made(output), replacing(output) as temporary:
        temporary.mkdir()
        write_json(temporary / METADATA_FILE, metadata)
    return ConcatStore.of(output, metadata)


def _check_fit(first: Store, other: Store) -> None:
    if len(other.members) > 1:
        raise UserError(f"{other.path} is a merged store itself; list its members instead")
    for template, one, another in (
        ("images of {0[0]}x{0[1]}", first.image_size, other.image_size),
        ("{0:g} frames per second", first.hz, other.hz),
    ):
        if one != another:
            raise UserError(
                f"{first.path} has {template.format(one)} and {other.path} {template.format(another)}; merged stores "
                "must have the same image size and frame rate, prepare one of them again with those of the other"
            )


def _names(names: Sequence[str]) -> list[str]:
    """Make names unique by appending a number to repeated ones."""
    found: list[str] = []
    for name in names:
        others = (f"{name}-{k}" for k in range(2, len(names) + 1))
        found.append(next(n for n in (name, *others) if n not in found))
    return found
