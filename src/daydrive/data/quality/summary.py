"""Statistics of a store."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from daydrive.data.sampling.clip_weights import STANDING, TOP, TURN
from daydrive.data.store.store import SPLITS, UNUSED, Store
from daydrive.locations import is_remote
from daydrive.types import ACTION_NAMES

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

Numbers = npt.NDArray[Any]


def summarize(store: Store) -> dict[str, Any]:
    """Return the statistics shown by `daydrive data info`, as JSON values.

    Reads all columns except the images, one at a time.
    """
    metadata = store.metadata
    size = _size(store)
    return {
        "store": str(store.path),
        "source": store.source,
        "members": [{"store": str(m.path), "weight": w} for m, w in zip(store.members, store.weights, strict=True)],
        "options": metadata.get("request", {}).get("options", {}),
        "data_root": metadata.get("request", {}).get("data_root"),
        "fingerprint": store.fingerprint,
        "daydrive": metadata.get("daydrive"),
        "frames": store.rows,
        "hours": store.rows / store.hz / 3600.0,
        "hz": store.hz,
        "image_size": list(store.image_size),
        "recorded_image_size": metadata.get("recorded_image_size"),
        "fit": metadata.get("fit", "stretch"),
        "geometry": metadata.get("geometry"),
        "pixel_aspect": store.pixel_aspect,
        "bytes": size,
        "bytes_per_frame": None if size is None else size / max(store.rows, 1),
        "repeated_frames": metadata.get("repeated_frames"),
        "split": metadata.get("split"),
        "splits": _splits(store),
        "actions": metadata.get("actions", {}),
        "made_from": _origins(metadata),
        "driving": _driving(store),
        "columns": _columns(store),
    }


def _size(store: Store) -> int | None:
    """Total size of all files in bytes; None for an object store."""
    folders = [member.path for member in store.members]
    if any(is_remote(folder) for folder in folders):
        return None
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def _splits(store: Store) -> dict[str, dict[str, Any]]:
    """Number of drives, frames, hours and drive lengths (s) of each split."""
    found = {}
    for name in (*SPLITS, UNUSED):
        frames = store.drives.frames[store.drives.of_split(name)]
        if name == UNUSED and not len(frames):
            continue
        seconds = frames / store.hz
        shortest, median, longest = np.percentile(seconds, (0, 50, 100)).tolist() if len(frames) else (None, None, None)
        found[name] = {
            "drives": len(frames),
            "frames": int(frames.sum()),
            "hours": float(seconds.sum() / 3600.0),
            "seconds": {"shortest": shortest, "median": median, "longest": longest},
        }
    return found


def _origins(metadata: dict[str, Any]) -> dict[str, dict[str, int]]:
    """For each signal, the number of drives by origin of its values: {'steering': {'ego_pose': 3}}."""
    found: dict[str, dict[str, int]] = {}
    for drive in metadata["drives"]:
        for signal, origin in drive.get("made_from", {}).items():
            counts = found.setdefault(signal, {})
            counts[origin] = counts.get(origin, 0) + 1
    return found


def _driving(store: Store) -> dict[str, float | None]:
    """Shares of frames in which the car stands, drives straight, turns left or right, with the thresholds of the
    balanced sampling; `standing` is None if no speed was recorded."""
    steering = store.read_actions(np.arange(store.rows))[:, 0].astype(np.float64)
    turn = TURN * float(np.sqrt(np.mean(steering**2)))
    standing: Numbers = np.zeros(store.rows, dtype=bool)
    known = False
    if "speed" in store.schema.names:
        speed = np.abs(_read(store, "speed"))
        known = bool(np.isfinite(speed).any())
        if known:
            standing = speed < STANDING * max(float(np.nanpercentile(speed, TOP)), 1e-9)
    moving = ~standing
    return {
        "turns_from": turn,
        "standing": float(standing.mean()) if known else None,
        "straight": float((moving & (np.abs(steering) <= turn)).mean()),
        "left": float((moving & (steering < -turn)).mean()),
        "right": float((moving & (steering > turn)).mean()),
    }


def _columns(store: Store) -> dict[str, dict[str, Any]]:
    """Unit and statistics of each action and each additional value of the source."""
    action_metadata = store.metadata.get("actions", {})
    found = {}
    actions = store.read_actions(np.arange(store.rows))
    for name, column in zip(ACTION_NAMES, actions.T, strict=True):
        found[name] = {"unit": action_metadata.get(name, {}).get("scale", ""), **_statistics(column)}
    units = {**store.metadata.get("values", {}), **store.metadata.get("scores", {})}
    for name in store.schema.names:
        if name in units:
            found[name] = {"unit": units[name], **_statistics(_read(store, name))}
    return found


def _read(store: Store, name: str) -> Numbers:
    return np.asarray(store.read_values(np.arange(store.rows), [name])[name], dtype=np.float64)


def _statistics(column: Numbers) -> dict[str, Any]:
    """Share of missing values, and statistics of the finite ones."""
    finite = column[np.isfinite(column)].astype(np.float64)
    missing = 1.0 - len(finite) / max(len(column), 1)
    if not len(finite):
        return {"missing": missing}
    percentiles = dict(zip(map(str, PERCENTILES), np.percentile(finite, PERCENTILES).tolist(), strict=True))
    zero = float((finite == 0.0).mean())
    return {
        "missing": missing,
        "min": float(finite.min()),
        "mean": float(finite.mean()),
        "max": float(finite.max()),
        "std": float(finite.std()),
        "zero": zero,
        "percentiles": percentiles,
    }
