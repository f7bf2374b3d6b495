"""Faults of known size planted into sound drives, for tests of the doctor."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

from daydrive.data.quality.doctor.examine import diagnose
from daydrive.data.quality.doctor.features import DriveFeatures, FeatureExtractor, extract_features
from daydrive.data.quality.doctor.finding import Finding
from daydrive.data.quality.doctor.readings import Readings
from daydrive.data.sampling.clips import read_images
from daydrive.data.store.store import METADATA_FILE, TABLE, Store

Drives = Sequence[DriveFeatures]
Fault = Callable[[DriveFeatures], DriveFeatures]
Images = np.ndarray


def features_of(store: Store) -> list[DriveFeatures]:
    return [extract_features(store, drive) for drive in store.drives]


def images_of(store: Store, drive: DriveFeatures) -> Images:
    """uint8 (N, H, W, 3)."""
    return read_images(store, drive.start + np.arange(len(drive)))[0].copy()


def with_images(drive: DriveFeatures, images: Images) -> DriveFeatures:
    """The features of a drive with other images."""
    extractor = FeatureExtractor()
    extractor.add(images, np.ones(len(images), dtype=bool))
    return extractor.finish(Readings(**{field.name: getattr(drive, field.name) for field in fields(Readings)}))


def in_all(drives: Drives, fault: Fault) -> list[Finding]:
    return diagnose([fault(drive) for drive in drives])


def in_one(drives: Drives, index: int, fault: Fault) -> list[Finding]:
    return diagnose([fault(drive) if k == index else drive for k, drive in enumerate(drives)])


def steering(change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    def fault(drive: DriveFeatures) -> DriveFeatures:
        actions = drive.actions.copy()
        actions[:, 0] = change(actions[:, 0])
        return replace(drive, actions=actions)

    return fault


def column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    return lambda drive: replace(drive, values={**drive.values, name: change(drive.values[name].copy())})


def delayed_images(frames: int) -> Fault:
    """Images that follow their actions after `frames` frames; negative: precede them."""

    def fault(drive: DriveFeatures) -> DriveFeatures:
        shifted = np.clip(np.arange(len(drive)) + frames, 0, len(drive) - 1)
        return replace(drive, actions=drive.actions[shifted])

    return fault


def mirrored(drive: DriveFeatures) -> DriveFeatures:
    return replace(drive, right=-drive.right, mean=drive.mean[:, ::-1])


def thinned(every: int) -> Fault:
    """Every `every`-th frame, with timestamps as if none were skipped."""

    def fault(drive: DriveFeatures) -> DriveFeatures:
        frames = np.arange(0, len(drive) - every + 1, every)
        between = {
            name: np.array([getattr(drive, name)[k : k + every].sum() for k in frames[:-1]])
            for name in ("right", "growth", "change")
        }
        values = {name: values[frames] for name, values in drive.values.items()}
        values["time"] = np.arange(len(frames)) / drive.hz
        selected = {
            n: getattr(drive, n)[frames] for n in ("level", "contrast", "sharpness", "blueness", "hashes", "valid")
        }
        actions = np.stack([drive.actions[k : k + every].mean(0) for k in frames])
        return replace(drive, actions=actions, values=values, fit=drive.fit[frames[:-1]], **between, **selected)

    return fault


def faulted_store(source: Path, target: Path, change: Callable[[dict[str, list[Any]]], None]) -> Path:
    """Copy a store after `change` has modified its columns, a list of values by name."""
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
