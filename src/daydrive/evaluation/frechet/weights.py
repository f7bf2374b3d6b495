"""Published weights, read from the file that a user has."""

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
"""Of batch norm, which only training needs; older files have none."""


def load_published(module: nn.Module, file: Path, option: str, what: str) -> None:
    """Fill a module from a state dict, safetensors or `torch.save`, of the names and shapes it has.

    Further tensors in the file are left alone. option, what: of which the error speaks, as in '--fid-weights', 'the
    Inception network of FID'. UserError naming the first tensor that is absent, of another shape or not finite.
    """
    state = _read(file, option)
    wanted = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith(_COUNTER)}
    found = {}
    for name, tensor in wanted.items():
        try:
            found[name] = _checked(state.get(name), tensor)
        except ValueError as problem:
            raise UserError(f"{option} {file}: not the weights of {what}: '{name}' {problem}") from None
    module.load_state_dict(found, strict=False)
    module.requires_grad_(False).eval()


def _checked(found: object, wanted: Tensor) -> Tensor:
    """ValueError with what is wrong with a tensor."""
    if not isinstance(found, Tensor):
        raise ValueError("is not in it")
    if found.shape != wanted.shape:
        raise ValueError(f"is {_shape(found)}, not {_shape(wanted)}")
    if not found.isfinite().all():
        raise ValueError("holds values that are not finite")
    return found.float()


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
            f"{option} {file}: can't be read as weights; safetensors or tensors alone, saved by torch.save, are needed"
        ) from None
    if not isinstance(state, Mapping):
        raise UserError(f"{option} {file}: holds no state dict but a {type(state).__name__}")
    return state
