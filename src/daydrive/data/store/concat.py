"""Making a mix of several stores, see `store.Mix`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

from daydrive.data.store.store import METADATA_FILE, NEWEST_VERSION, ConcatStore, Store
from daydrive.errors import UserError
from daydrive.files import atomic_replace, check_folder, created_parents, write_json
from daydrive.locations import is_remote, location


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
    with created_parents(output), atomic_replace(output) as temporary:
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
