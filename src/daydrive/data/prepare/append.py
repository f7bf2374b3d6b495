"""Adding drives to an existing store: compatibility checks, new drives and their origin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from daydrive.data.store.store import SPLITS, Store
from daydrive.errors import UserError
from daydrive.types import Drive

SELECTION_OPTIONS = ("drives", "frames", "seed", "version")
"""Options that select drives, without an effect on how a drive is prepared."""

Origin = dict[str, Any]
"""Where drives come from. Drives with the same name and origin are the same."""


def origin_of(request: Mapping[str, Any]) -> Origin:
    """The folder of recordings, or all settings that determine generated drives."""
    options = dict(request["options"])
    if request["data_root"] is not None:
        return {"data_root": request["data_root"], "version": options.get("version")}
    return {"data_root": None, **{name: value for name, value in options.items() if name != "drives"}}


def check_request(store: Store, request: Mapping[str, Any]) -> None:
    """Raise UserError if the settings of a preparation are incompatible with those of the store."""
    existing, requested = _settings({"fit": "stretch", **store.metadata.get("request", {})}), _settings(request)
    differences = [
        f"its {name} is {_short(existing.get(name))}, not {_short(value)}"
        for name, value in requested.items()
        if existing.get(name) != value
    ]
    if differences:
        raise UserError(f"--add: the store {store.path} was prepared differently: {'; '.join(differences)}")


def check_description(store: Store, hz: float, description: Mapping[str, Any]) -> None:
    """Raise UserError if the drives have a different frame rate, other columns, or differently derived actions."""
    if hz != store.hz:
        raise UserError(
            f"--add: the store {store.path} has {store.hz:g} frames per second and these drives have {hz:g}; "
            f"set --hz {store.hz:g}"
        )
    for key in ("values", "actions"):
        existing, new = store.metadata.get(key, {}), json.loads(json.dumps(description[key]))
        differing = sorted(name for name in {*existing, *new} if existing.get(name) != new.get(name))
        if differing:
            raise UserError(
                f"--add: the store {store.path} was prepared differently, its {key} {', '.join(differing)} differ; "
                "prepare a separate store"
            )


def new_drives(store: Store, drives: Sequence[Drive], origin: Origin) -> list[Drive]:
    """Drives not yet in the store. Raises UserError if a drive of another origin has the same name."""
    origins = _origins(store)
    existing = {entry["name"]: origins[int(entry.get("origin", 0))] for entry in store.metadata["drives"]}
    found = []
    for drive in drives:
        same = next((name for name in _names(drive) if name in existing), None)
        if same is None:
            found.append(drive)
        elif existing[same] != origin:
            raise UserError(
                f"--add: the store {store.path} already has a drive '{same}', from "
                f"{_origin_text(existing[same])} and not from {_origin_text(origin)}; rename it, or prepare a "
                "separate store and `daydrive data merge` them"
            )
    return found


def with_origin(store: Store, origin: Origin) -> tuple[list[Origin], int]:
    """The origins of the store including this one, and its index."""
    origins = _origins(store)
    if origin not in origins:
        origins.append(origin)
    return origins, origins.index(origin)


def changes(store: Store, origins: list[Origin], counted: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that new drives change. counted: of their preparation, see `FrameCounts.metadata`."""
    return {"origins": origins, "frame_counts": [*store.metadata.get("frame_counts", []), counted]}


def splits_of(store: Store) -> dict[str, str]:
    """The split of each group of drives in the store."""
    return {str(e.get("group") or e["name"]): str(e["split"]) for e in store.metadata["drives"] if e["split"] in SPLITS}


def sizes_of(store: Store) -> dict[str, tuple[int, int]]:
    """The number of groups of drives, and of frames, in each split."""
    groups: dict[str, set[str]] = {name: set() for name in SPLITS}
    frames = dict.fromkeys(SPLITS, 0)
    for entry in store.metadata["drives"]:
        split = str(entry["split"])
        if split in SPLITS:
            groups[split].add(str(entry.get("group") or entry["name"]))
            frames[split] += int(entry["frames"])
    return {name: (len(groups[name]), frames[name]) for name in SPLITS}


def _names(drive: Drive) -> list[str]:
    """Possible names of a drive in a store, whole or cut by time."""
    return [drive.name, *(f"{drive.name}.{split}" for split in SPLITS)]


def _origins(store: Store) -> list[Origin]:
    return list(store.metadata.get("origins") or [origin_of(store.metadata["request"])])


def _settings(request: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        f"--{name}": value for name, value in request.get("options", {}).items() if name not in SELECTION_OPTIONS
    }
    other = {name.replace("_", " "): request[name] for name in request.keys() - {"options", "data_root", "limit"}}
    return {**dict(sorted(other.items())), **options}


def _origin_text(origin: Origin) -> str:
    root = origin["data_root"]
    options = " ".join(f"--{key} {value}" for key, value in origin.items() if key != "data_root" and value is not None)
    return " ".join(text for text in (root, options) if text)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
