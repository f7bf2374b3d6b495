"""Compares two evaluations by paired differences over the same clips."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from daydrive.errors import UserError
from daydrive.evaluation.manifest import check_comparable
from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval
from daydrive.evaluation.metrics.realistic import ARRAYS, realistic_steps_per_clip
from daydrive.evaluation.metrics.usable import BASELINES, bootstrap_usable_steps, mean_usable_steps
from daydrive.files import read_json

METRICS = "frame_metrics.npz"
FORMER_METRICS = "figures.npz"
"""The same file in evaluations of earlier versions, with `mean_picture_psnr` in place of `mean_image_psnr`."""


def save_frame_metrics(folder: Path, metrics: Mapping[str, Array]) -> None:
    """Saves the metrics (clips, steps) of each clip for a later comparison, without pickle."""
    arrays: dict[str, Any] = {**metrics}
    np.savez(folder / METRICS, **arrays)


def read_evaluation(
    folder: Path, own_manifest: dict[str, Any], shape: tuple[int, int]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """`evaluation.json` and the per-clip metrics of another evaluation. UserError if the two are not comparable.

    own_manifest: of the current evaluation; shape: (clips, steps) of its metrics.
    """
    other = read_json(folder / "evaluation.json", "evaluation")
    if not isinstance(other, dict) or not isinstance(other.get("manifest"), dict):
        raise UserError(f"--compare {folder}: its evaluation.json has no manifest; evaluate that checkpoint again")
    check_comparable(own_manifest, other["manifest"], str(folder))
    file = folder / METRICS
    if not file.exists() and (folder / FORMER_METRICS).exists():
        file = folder / FORMER_METRICS
    try:
        with np.load(file, allow_pickle=False) as data:
            metrics = {_current(name): np.asarray(data[name], dtype=np.float64) for name in data.files}
        shapes = {metrics[name].shape for name in ("psnr", "ssim", *BASELINES)}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"--compare {folder}: {file} cannot be read ({error})") from None
    if shapes != {shape}:
        found = ", ".join(str(shape) for shape in sorted(shapes))
        raise UserError(f"--compare {folder}: {file} has metrics of shape {found}, not {shape}")
    return other, metrics


def _current(name: str) -> str:
    return "mean_image_psnr" if name == "mean_picture_psnr" else name


def compare(own: Mapping[str, Array], other: Mapping[str, Array], draws: Bootstrap | None, hz: float) -> dict[str, Any]:
    """The first minus the second evaluation: `psnr` and `ssim` at each step, `usable_seconds` and `realistic_seconds`
    (by clip alone; absent if one of them was made by an earlier version), each with its interval over drives.

    own, other: (clips, steps) by name. hz: frames per second. The intervals are None without `draws`.
    """
    result: dict[str, Any] = {}
    for name in ("psnr", "ssim"):
        difference = own[name] - other[name]
        result[name] = difference.mean(0).round(6).tolist()
        result[f"{name}_interval"] = None
        if draws is not None:
            low, high = interval(draws.means(difference))
            result[f"{name}_interval"] = np.stack([low, high], axis=1).round(6).tolist()
    result["usable_seconds"] = round((mean_usable_steps(own) - mean_usable_steps(other)) / hz, 4)
    result["usable_seconds_interval"] = None
    if draws is not None:
        low, high = interval((bootstrap_usable_steps(own, draws) - bootstrap_usable_steps(other, draws)) / hz)
        result["usable_seconds_interval"] = [round(float(low), 4), round(float(high), 4)]
    if all(name in metrics for metrics in (own, other) for name in ARRAYS):  # evaluations of earlier versions have less
        steps = realistic_steps_per_clip(own, hz) - realistic_steps_per_clip(other, hz)
        result["realistic_seconds"] = round(float(steps.mean()) / hz, 4)
        result["realistic_seconds_interval"] = None
        if draws is not None:
            low, high = interval(draws.means(steps) / hz)
            result["realistic_seconds_interval"] = [round(float(low), 4), round(float(high), 4)]
    return result
