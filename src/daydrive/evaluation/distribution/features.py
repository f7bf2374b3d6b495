"""Feature extractors for distances of distributions: the filters, and Inception and I3D if their weights are given."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from daydrive.errors import UserError
from daydrive.evaluation.distribution import filters, i3d, inception
from daydrive.evaluation.manifest import file_hash

_COUNTER = "num_batches_tracked"
"""A buffer of batch norm that only training needs; older files do not have it."""


def load_published(module: nn.Module, file: Path, option: str, what: str) -> None:
    """Loads a state dict (safetensors or `torch.save`) with the names and shapes of the module.

    Other tensors in the file are ignored. option, what: for error messages, such as '--fid-weights' and 'the Inception
    network of FID'. UserError naming the first tensor that is missing, has another shape or is not finite.
    """
    state = _read(file, option)
    expected = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(_COUNTER)}
    weights = {}
    for name, tensor in expected.items():
        try:
            weights[name] = _checked(state.get(name), tensor)
        except ValueError as problem:
            raise UserError(f"{option} {file}: not the weights of {what}: '{name}' {problem}") from None
    module.load_state_dict(weights, strict=False)
    module.requires_grad_(False).eval()


def _checked(tensor: object, expected: Tensor) -> Tensor:
    """Raises ValueError, saying what is wrong with the tensor."""
    if not isinstance(tensor, Tensor):
        raise ValueError("is missing")
    if tensor.shape != expected.shape:
        raise ValueError(f"is {_shape(tensor)}, not {_shape(expected)}")
    if not tensor.isfinite().all():
        raise ValueError("contains values that are not finite")
    return tensor.float()


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a single number"


def _read(file: Path, option: str) -> Mapping[str, object]:
    if not file.is_file():
        raise UserError(f"{option} {file}: there is no such file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
        raise UserError(
            f"{option} {file}: cannot be read as weights; a safetensors file or a state dict of torch.save is needed"
        ) from None
    if not isinstance(state, Mapping):
        raise UserError(f"{option} {file}: must contain a state dict, not a {type(state).__name__}")
    return state


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
    """The filters, and the networks whose weight files are given. UserError if a file cannot be used."""
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
