"""Is one model better than another, and by how much: paired differences over the same clips."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from daydrive.errors import UserError
from daydrive.evaluation.manifest import check_comparable
from daydrive.evaluation.metrics.intervals import Array, Bootstrap, interval
from daydrive.evaluation.metrics.usable import BASELINES, drawn_steps, usable_of
from daydrive.files import read_json

METRICS = "frame_metrics.npz"
FORMER_METRICS = "figures.npz"
"""The same file of earlier evaluations, with `mean_picture_psnr` in place of `mean_image_psnr`."""


def save_frame_metrics(folder: Path, metrics: Mapping[str, Array]) -> None:
    """The metrics of each clip, for a later comparison; no pickle."""
    arrays: dict[str, Any] = {**metrics}
    np.savez(folder / METRICS, **arrays)


def read_other(folder: Path, ours: dict[str, Any], shape: tuple[int, int]) -> tuple[dict[str, Any], dict[str, Array]]:
    """`evaluation.json` and the metrics of each clip of another evaluation; UserError where it can't be compared.

    ours: the manifest of the evaluation it is compared with; shape: (clips, steps) of its metrics.
    """
    other = read_json(folder / "evaluation.json", "evaluation")
    if not isinstance(other, dict) or not isinstance(other.get("manifest"), dict):
        raise UserError(f"--compare {folder}: its evaluation.json has no manifest; evaluate that checkpoint again")
    check_comparable(ours, other["manifest"], str(folder))
    file = folder / METRICS
    if not file.exists() and (folder / FORMER_METRICS).exists():
        file = folder / FORMER_METRICS
    try:
        with np.load(file, allow_pickle=False) as data:
            metrics = {_current(name): np.asarray(data[name], dtype=np.float64) for name in data.files}
        shapes = {metrics[name].shape for name in ("psnr", "ssim", *BASELINES)}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"--compare {folder}: {file} can't be read ({error})") from None
    if shapes != {shape}:
        found = ", ".join(str(shape) for shape in sorted(shapes))
        raise UserError(f"--compare {folder}: {file} has metrics of shape {found}, not {shape}")
    return other, metrics


def _current(name: str) -> str:
    return "mean_image_psnr" if name == "mean_picture_psnr" else name


def compare(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], draws: Bootstrap | None, hz: float
) -> dict[str, Any]:
    """Ours minus theirs: `psnr` and `ssim` at each step and `usable_seconds`, each with its interval over drives."""
    result: dict[str, Any] = {}
    for name in ("psnr", "ssim"):
        difference = ours[name] - theirs[name]
        result[name] = difference.mean(0).round(6).tolist()
        result[f"{name}_interval"] = None
        if draws is not None:
            low, high = interval(draws.means(difference))
            result[f"{name}_interval"] = np.stack([low, high], axis=1).round(6).tolist()
    result["usable_seconds"] = round((usable_of(ours) - usable_of(theirs)) / hz, 4)
    result["usable_seconds_interval"] = None
    if draws is not None:
        low, high = interval((drawn_steps(ours, draws) - drawn_steps(theirs, draws)) / hz)
        result["usable_seconds_interval"] = [round(float(low), 4), round(float(high), 4)]
    return result
