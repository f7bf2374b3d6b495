"""Further drives for a store that is there: what has to agree, which are new, and which split they go to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.data.store.store import SPLITS, Store
from daydrive.errors import UserError
from daydrive.types import Drive

CHOOSING = ("drives", "frames", "seed", "version")
"""options that say which drives, not what a drive becomes"""

Origin = dict[str, Any]
"""Where drives come from: two of one name and one origin are the same."""


def origin_of(request: Mapping[str, Any]) -> Origin:
    """Of recordings their folder; of drives that are drawn, all that decides how they come out."""
    options = dict(request["options"])
    if request["data_root"] is not None:
        return {"data_root": request["data_root"], "version": options.get("version")}
    return {"data_root": None, **{name: value for name, value in options.items() if name != "drives"}}


def check_request(store: Store, request: Mapping[str, Any]) -> None:
    """UserError where drives that are prepared in this way don't fit beside those of the store."""
    there, wanted = _settings({"fit": "stretch", **store.metadata.get("request", {})}), _settings(request)
    said = [
        f"its {name} is {_short(there.get(name))}, not {_short(value)}"
        for name, value in wanted.items()
        if there.get(name) != value
    ]
    if said:
        raise UserError(f"--add: the store {store.path} was made otherwise: {'; '.join(said)}")


def check_description(store: Store, hz: float, description: Mapping[str, Any]) -> None:
    """UserError where the drives have another rate, other columns, or actions made in another way."""
    if hz != store.hz:
        raise UserError(
            f"--add: the store {store.path} has {store.hz:g} frames a second and these drives have {hz:g}; "
            f"give --hz {store.hz:g}"
        )
    for key in ("values", "actions"):
        there, new = store.metadata.get(key, {}), json.loads(json.dumps(description[key]))
        other = sorted(name for name in {*there, *new} if there.get(name) != new.get(name))
        if other:
            raise UserError(
                f"--add: the store {store.path} was made otherwise, its {key} {', '.join(other)} differ; prepare "
                "one of its own"
            )


def new_drives(store: Store, drives: Sequence[Drive], origin: Origin) -> list[Drive]:
    """Those that the store does not have; UserError where a drive of another origin has the same name."""
    origins = _origins(store)
    there = {entry["name"]: origins[int(entry.get("origin", 0))] for entry in store.metadata["drives"]}
    found = []
    for drive in drives:
        same = next((name for name in _names(drive) if name in there), None)
        if same is None:
            found.append(drive)
        elif there[same] != origin:
            raise UserError(
                f"--add: the store {store.path} has a drive '{same}' already, from {_told(there[same])} and not from "
                f"{_told(origin)}; rename it, or prepare a store of its own and `daydrive data merge` them"
            )
    return found


def with_origin(store: Store, origin: Origin) -> tuple[list[Origin], int]:
    """The store's origins with this one, and its place among them."""
    origins = _origins(store)
    if origin not in origins:
        origins.append(origin)
    return origins, origins.index(origin)


def splits_of(store: Store) -> dict[str, str]:
    """The split of each group of drives that the store has."""
    return {str(e.get("group") or e["name"]): str(e["split"]) for e in store.metadata["drives"] if e["split"] in SPLITS}


def counts_of(store: Store) -> Counter[str]:
    """How many groups of drives each split has."""
    found = {(str(entry.get("group") or entry["name"]), str(entry["split"])) for entry in store.metadata["drives"]}
    return Counter(split for _, split in found if split in SPLITS)


def _names(drive: Drive) -> list[str]:
    """What a drive is called in a store, whole or cut."""
    return [drive.name, *(f"{drive.name}.{split}" for split in SPLITS)]


def _origins(store: Store) -> list[Origin]:
    return list(store.metadata.get("origins") or [origin_of(store.metadata["request"])])


def _settings(request: Mapping[str, Any]) -> dict[str, Any]:
    options = {f"--{name}": value for name, value in request.get("options", {}).items() if name not in CHOOSING}
    other = {name.replace("_", " "): request[name] for name in request.keys() - {"options", "data_root", "limit"}}
    return {**dict(sorted(other.items())), **options}


def _told(origin: Origin) -> str:
    root = origin["data_root"]
    options = " ".join(f"--{key} {value}" for key, value in origin.items() if key != "data_root" and value is not None)
    return " ".join(part for part in (root, options) if part)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
