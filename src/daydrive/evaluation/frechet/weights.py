"""Loads published weights from a local file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from daydrive.errors import UserError

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
            f"{option} {file}: can't be read as weights; a safetensors file or a state dict of torch.save is needed"
        ) from None
    if not isinstance(state, Mapping):
        raise UserError(f"{option} {file}: must contain a state dict, not a {type(state).__name__}")
    return state
