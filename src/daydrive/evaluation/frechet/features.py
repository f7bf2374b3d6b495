"""Feature extractors for Fréchet distances: the filters, and Inception and I3D if their weights are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from daydrive.evaluation.frechet import filters, i3d, inception
from daydrive.evaluation.frechet.weights import load_published
from daydrive.evaluation.manifest import file_hash

BATCH = 16
"""Number of images in a forward pass of Inception."""


class Features(NamedTuple):
    """A feature extractor.

    key: in `evaluation.json`. name: of the features, with their version or weights. extract: (preceding frame uint8
    (3, H, W), frames uint8 (N, 3, H, W)) → float32 (samples, dimensions), on the CPU. per_frame: each frame is one
    sample, in order. in_bands: distances are also given for bands of steps. step: the values are rounded to multiples
    of it, see `Moments`.
    """

    key: str
    name: str
    dimensions: int
    step: float
    per_frame: bool
    in_bands: bool
    extract: Callable[[Tensor, Tensor], Tensor]


_FILTERS = f"daydrive-filters-{filters.VERSION}"
FILTERS = (
    Features(
        "filters", _FILTERS, filters.DIMENSIONS, filters.STEP, True, True,
        lambda before, frames: filters.image_features(frames),
    ),
    Features(
        "change_filters", f"{_FILTERS}, of changes", filters.DIMENSIONS, filters.STEP, True, True,
        filters.change_features,
    ),
)  # fmt: skip
"""Features that need no weights."""

ABSENT = {
    "fid": "not measured: it needs the published weights, --fid-weights FILE",
    "fvd": f"not measured: it needs the published weights, --fvd-weights FILE, and {i3d.FRAMES} steps",
}
"""The reason why a standard distance is missing, by key."""


def find_features(fid_weights: Path | None, fvd_weights: Path | None, device: torch.device) -> tuple[Features, ...]:
    """The filters, and the networks whose weight files are given. UserError if a file can't be used."""
    extractors = list(FILTERS)
    if fid_weights is not None:
        extractors.append(_fid(fid_weights, device))
    if fvd_weights is not None:
        extractors.append(_fvd(fvd_weights, device))
    return tuple(extractors)


def _fid(file: Path, device: torch.device) -> Features:
    network = inception.InceptionV3()
    load_published(network, file, "--fid-weights", "FID's Inception")
    network.to(device)

    @torch.no_grad()
    def extract(before: Tensor, frames: Tensor) -> Tensor:
        return torch.cat([network(part.to(device)).cpu() for part in frames.split(BATCH)])

    return Features("fid", _named(file), inception.DIMENSIONS, 2.0**-12, True, False, extract)


def _fvd(file: Path, device: torch.device) -> Features:
    network = i3d.I3D()
    load_published(network, file, "--fvd-weights", "FVD's I3D")
    network.to(device)

    @torch.no_grad()
    def extract(before: Tensor, frames: Tensor) -> Tensor:
        """One sample for every 16 frames; remaining frames at the end are ignored."""
        clips = [part for part in frames.split(i3d.FRAMES) if len(part) == i3d.FRAMES]
        scores = [network(clip[None].to(device)).cpu() for clip in clips]
        return torch.cat(scores) if scores else torch.empty(0, i3d.DIMENSIONS)

    return Features("fvd", _named(file), i3d.DIMENSIONS, 2.0**-10, False, False, extract)


def _named(file: Path) -> str:
    return f"{file.name}, {file_hash(file)}"
