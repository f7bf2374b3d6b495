"""The state of a rollout as a flat sequence of named tensors, which exported graphs take and return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from daydrive.errors import UserError

ROOT = "state"


def flatten(state: Any, name: str = ROOT) -> dict[str, Tensor]:
    """The tensors of a nested state by path, such as `state.texture.source`; parts that are None are left out.

    Raises UserError for a part that is neither a tensor, None, a tuple, a list nor a dict.
    """
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {name: state}
    if not isinstance(state, tuple | list | dict):
        raise UserError(
            f"the model cannot be exported: its {name} is a {type(state).__name__}; a state consists of tensors in "
            "nested tuples, lists and dicts"
        )
    return {path: tensor for key, part in _parts(state) for path, tensor in flatten(part, f"{name}.{key}").items()}


def rebuild(like: Any, tensors: Iterator[Tensor]) -> Any:
    """A state of the structure of `like` from tensors in the order of `flatten`."""
    if like is None:
        return None
    if isinstance(like, Tensor):
        return next(tensors)
    parts = [rebuild(part, tensors) for _, part in _parts(like)]
    if isinstance(like, dict):
        return dict(zip(like, parts, strict=True))
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


def _parts(state: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(state, dict):
        return ((str(key), part) for key, part in state.items())
    return zip(getattr(state, "_fields", map(str, range(len(state)))), state, strict=True)
