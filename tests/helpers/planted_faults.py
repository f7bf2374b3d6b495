"""Faults put into drives that have none, at the size that the doctor should find."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from daydrive.data.quality.doctor.examine import judge
from daydrive.data.quality.doctor.features import DriveFeatures, ImageQuality, look
from daydrive.data.quality.doctor.finding import Finding
from daydrive.data.quality.doctor.readings import Readings
from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import METADATA_FILE, TABLE, Store

Drives = Sequence[DriveFeatures]
Fault = Callable[[DriveFeatures], DriveFeatures]
Images = np.ndarray


def looked_at(store: Store) -> list[DriveFeatures]:
    return [look(store, drive) for drive in store.drives]


def pictures(store: Store, drive: DriveFeatures) -> Images:
    """uint8 (N, H, W, 3)."""
    return read_images(store, drive.start + np.arange(len(drive)))[0].copy()


def seen_anew(drive: DriveFeatures, images: Images) -> DriveFeatures:
    """The drive with these pictures."""
    looks = ImageQuality()
    looks.add(images, np.ones(len(images), dtype=bool))
    return looks.looked(Readings(**{field.name: getattr(drive, field.name) for field in fields(Readings)}))


def everywhere(drives: Drives, fault: Fault) -> list[Finding]:
    return judge([fault(drive) for drive in drives])


def in_one(drives: Drives, place: int, fault: Fault) -> list[Finding]:
    return judge([fault(drive) if k == place else drive for k, drive in enumerate(drives)])


def steering(change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    def fault(drive: DriveFeatures) -> DriveFeatures:
        actions = drive.actions.copy()
        actions[:, 0] = change(actions[:, 0])
        return replace(drive, actions=actions)

    return fault


def column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    return lambda drive: replace(drive, values={**drive.values, name: change(drive.values[name].copy())})


def late_pictures(frames: int) -> Fault:
    """Pictures that come so many frames after their actions; negative: before them."""

    def fault(drive: DriveFeatures) -> DriveFeatures:
        places = np.clip(np.arange(len(drive)) + frames, 0, len(drive) - 1)
        return replace(drive, actions=drive.actions[places])

    return fault


def mirrored(drive: DriveFeatures) -> DriveFeatures:
    return replace(drive, right=-drive.right, mean=drive.mean[:, ::-1])


def thinned(every: int) -> Fault:
    """Every so many frames taken, and the clock as if all were."""

    def fault(drive: DriveFeatures) -> DriveFeatures:
        at = np.arange(0, len(drive) - every + 1, every)
        between = {
            name: np.array([getattr(drive, name)[k : k + every].sum() for k in at[:-1]])
            for name in ("right", "grows", "change")
        }
        values = {name: values[at] for name, values in drive.values.items()}
        values["time"] = np.arange(len(at)) / drive.hz
        kept = {n: getattr(drive, n)[at] for n in ("level", "contrast", "sharpness", "blueness", "hashes", "seen")}
        actions = np.stack([drive.actions[k : k + every].mean(0) for k in at])
        return replace(drive, actions=actions, values=values, fit=drive.fit[at[:-1]], **between, **kept)

    return fault


def faulted_store(source: Path, target: Path, change: Callable[[dict[str, list[Any]]], None]) -> Path:
    """A copy of a store whose columns, a list each by name, were changed."""
    old = lance.dataset(str(source / TABLE)).to_table()
    columns = {name: old.column(name).to_pylist() for name in old.column_names}
    change(columns)
    target.mkdir()
    arrays = [pa.array(columns[field.name], field.type) for field in old.schema]
    table = pa.Table.from_arrays(arrays, schema=old.schema)
    lance.write_dataset(table, str(target / TABLE))
    metadata = json.loads((source / METADATA_FILE).read_text())
    metadata.pop("table_version", None)
    metadata["fingerprint"] = "planted" + metadata["fingerprint"][7:]
    (target / METADATA_FILE).write_text(json.dumps(metadata))
    return target
