"""Functions on states of rollouts (`daydrive.models.interface.State`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from daydrive.models.interface import State


def map_tensors(function: Callable[..., Tensor], state: State, *others: State) -> State:
    """Apply a function to the tensors of states of one structure; parts that are None in any of them become None.

    Raises TypeError if the structures differ, or for anything but tuples, tensors and None.
    """
    states = (state, *others)
    if any(each is None for each in states):
        return None
    if all(isinstance(each, Tensor) for each in states):
        return function(*states)
    if not all(isinstance(each, tuple) and len(each) == len(state) for each in states):
        kinds = " and ".join(dict.fromkeys(type(each).__name__ for each in states))
        raise TypeError(f"states are nested tuples of tensors of one structure, not {kinds}")
    parts = [map_tensors(function, *each) for each in zip(*states, strict=True)]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def clip_of(state: State, clip: int) -> State:
    """A copy of the state of one clip of a batch, as a batch of one."""
    return map_tensors(lambda tensor: tensor[clip : clip + 1].clone(), state)


def concatenate(states: Sequence[State]) -> State:
    """The states of several batches as those of one."""
    return map_tensors(lambda *tensors: torch.cat(tensors), *states)


def replace_clips(state: State, clips: Sequence[int], new: State) -> State:
    """The state of a batch in which `clips`, in ascending order, have the states of the batch `new`.

    Raises TypeError if the structures differ, ValueError if the shapes of a clip's tensors do.
    """
    assert list(clips) == sorted(set(clips))

    def replace(tensor: Tensor, other: Tensor) -> Tensor:
        if other.shape != (len(clips), *tensor.shape[1:]) or other.dtype != tensor.dtype:
            raise ValueError(f"tensors of {tuple(other.shape[1:])} instead of {tuple(tensor.shape[1:])}")
        moved = other.to(tensor.device)
        if len(clips) == len(tensor):
            return moved
        return tensor.index_copy(0, torch.as_tensor(clips, device=tensor.device), moved)

    return map_tensors(replace, state, new)
