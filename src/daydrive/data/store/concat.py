"""Several stores as one: a folder whose `store.json` names them, with a weight for each.

    {"format_version": 2, "fingerprint": …, "members": [{"name": …, "path": …, "fingerprint": …, "weight": 1.0}, …]}

Nothing is copied. The rows of the mix are those of its members one after the other; its columns are those that all of
them have.
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

AGAIN = "make it again with `daydrive data merge`"


class ConcatStore(Store):
    """names: of the members, which prefix those of their drives."""

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
            raise UserError(f"{path / METADATA_FILE} is not the metadata of a mix ({error!r}); {AGAIN}") from error
        members = []
        for name, place, fingerprint in told:
            try:
                member = Store.open(place)
            except UserError as error:
                raise UserError(f"the mix {path} can't open its member '{name}': {error}") from error
            if member.fingerprint != fingerprint:
                raise UserError(f"the store {place} is another than when the mix {path} was made of it; {AGAIN}")
            members.append(member)
        try:
            return cls(path, metadata, members)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{path / METADATA_FILE} is not the metadata of a mix ({error!r}); {AGAIN}") from error

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


def merge(stores: Sequence[str | Path], output: Path, weights: Sequence[float] | None = None) -> ConcatStore:
    """A mix of stores at `output`, which must not be there. weights: of each, see `Store`; default: 1.

    UserError where the stores don't fit together.
    """
    places = [location(store) for store in stores]
    if len(places) < 2:
        raise UserError("a mix is made of two stores or more")
    weights = [1.0] * len(places) if weights is None else weights
    if len(weights) != len(places):
        raise UserError(f"--weights has {len(weights)} numbers for {len(places)} stores; give one for each")
    if not all(0 < weight < math.inf for weight in weights):
        raise UserError(f"--weights {' '.join(f'{weight:g}' for weight in weights)}: a weight is above 0")
    paths = [place if is_remote(place) else place.absolute() for place in places]
    opened = [Store.open(path) for path in paths]
    for path, store in zip(paths, opened, strict=True):
        _check_fit(opened[0], store)
        if paths.count(path) > 1:
            raise UserError(f"the store {path} is named twice; give it a weight of 2 instead")
    if output.exists() or output.is_symlink():
        raise UserError(f"the output {output} is there already; give one that is not")
    check_folder(output.parent, "folder of --output")
    names = _names([path.name for path in paths])
    members = [
        {"name": name, "path": str(path), "fingerprint": store.fingerprint, "weight": float(weight)}
        for name, path, store, weight in zip(names, paths, opened, weights, strict=True)
    ]
    told = json.dumps([[member[key] for key in ("name", "fingerprint", "weight")] for member in members])
    fingerprint = hashlib.sha256(told.encode()).hexdigest()[:32]
    metadata = {"format_version": NEWEST_VERSION, "fingerprint": fingerprint, "members": members}
    with parents_made(output), replacing(output) as temporary:
        temporary.mkdir()
        write_json(temporary / METADATA_FILE, metadata)
    return ConcatStore.of(output, metadata)


def _check_fit(first: Store, other: Store) -> None:
    if len(other.members) > 1:
        raise UserError(f"{other.path} is a mix already; name its stores instead")
    for what, one, another in (
        ("pictures of {0[0]}x{0[1]}", first.image_size, other.image_size),
        ("{0:g} frames a second", first.hz, other.hz),
    ):
        if one != another:
            raise UserError(
                f"{first.path} has {what.format(one)} and {other.path} {what.format(another)}; the stores of a mix "
                f"have one size and one rate, prepare one of them again with those of the other"
            )


def _names(names: Sequence[str]) -> list[str]:
    """The same, with a number behind one that was there before."""
    found: list[str] = []
    for name in names:
        others = (f"{name}-{k}" for k in range(2, len(names) + 1))
        found.append(next(n for n in (name, *others) if n not in found))
    return found
