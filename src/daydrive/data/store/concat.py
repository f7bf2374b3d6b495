"""Creation of merged stores, see `store.ConcatStore`."""

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
    with created_parents(output), atomic_replace(output) as temporary:
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
