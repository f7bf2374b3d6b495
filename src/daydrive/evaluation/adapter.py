"""Adapters: a Python file with a few lines makes any model usable in every report and benchmark.

def load(checkpoint: Path, device: torch.device) -> Adapter: ...     evaluate --adapter FILE.py:load
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from daydrive.errors import UserError, did_you_mean, errors_attributed_to
from daydrive.types import to_signed, to_uint8

REQUIRED = ("context", "reset", "step")


class Context(NamedTuple):
    """The context that a rollout starts from. Both tensors are on the CPU.

    images: uint8 (B, C, 3, H, W), RGB, newest last. actions: float32 (B, C-1, 4), between these images, in the order
    and ranges of `daydrive.types.ACTION_NAMES`.
    """

    images: Tensor
    actions: Tensor


class Adapter(Protocol):
    """A model that predicts one frame at a time. `context`: number of context frames it needs, at least 1.

    An optional attribute `name` is shown in the reports; by default it is the name of the function that created it.
    """

    context: int

    def reset(self, context: Context) -> None:
        """Start a new rollout of B clips."""

    def step(self, action: Tensor) -> Tensor:
        """Action float32 (B, 4) from the newest frame to the next → the next frame, uint8 (B, 3, H, W)."""


def load_adapter(spec: str, checkpoint: Path, device: torch.device) -> AdaptedModel:
    """Loads an adapter with the function given as `FILE.py:NAME`, to which the checkpoint path is passed unchanged.

    The file's folder is on `sys.path` while it loads. Raises UserError, naming the file, if the file, the function or
    one of the attributes in `REQUIRED` is missing.
    """
    label, name, adapter = call_function(spec, "adapter", checkpoint, device)
    missing = [attribute for attribute in REQUIRED if not hasattr(adapter, attribute)]
    if missing:
        raise UserError(
            f"{label} returns a {type(adapter).__name__} without '{missing[0]}'; it needs {', '.join(REQUIRED)}"
        )
    if not isinstance(adapter.context, int) or adapter.context < 1:
        raise UserError(f"{label} has context {adapter.context!r}; it must be an integer of at least 1 frame")
    return AdaptedModel(label, str(getattr(adapter, "name", name)), adapter)


class Called(NamedTuple):
    """label: kind and origin of a function, for error messages. name: of the function. result: what it returned."""

    label: str
    name: str
    result: Any


def call_function(spec: str, kind: str, *arguments: Any) -> Called:
    """Call the function given as `FILE.py:NAME`, with the file's folder on `sys.path`.

    kind: what the function makes, for error messages. Raises UserError, naming the file, if file or function are
    missing, and for errors inside of it.
    """
    file, colon, name = spec.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name:
        raise UserError(f"the {kind} '{spec}' must be FILE.py:NAME, a Python file and a function in it")
    if not path.is_file():
        raise UserError(f"the {kind} '{spec}': there is no file {path}")
    label = f"the {kind} '{spec}'"
    with errors_attributed_to(label), _importable(path.parent):
        return Called(label, name, _function(label, _module(path), name)(*arguments))


class AdaptedModel:
    """Wraps an adapter as a model that can be rolled out, one rollout at a time.

    label: names the adapter in error messages; errors inside it become a UserError with this label.
    """

    def __init__(self, label: str, name: str, adapter: Adapter) -> None:
        self.label, self.name, self.adapter = label, name, adapter
        self.context_frames = adapter.context

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> torch.Size:
        """Returns the shape of a batch of frames; the rest of the state is held by the adapter."""
        context = Context(to_uint8(images), actions)
        with errors_attributed_to(self.label):
            self.adapter.reset(context)
        return context.images[:, 0].shape

    def step(
        self, state: torch.Size, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Size, Tensor]:
        """The next frame, float32 (B, 3, H, W) in [-1, 1]. UserError if the adapter returns anything else."""
        with errors_attributed_to(self.label):
            frame = self.adapter.step(action)
        if not isinstance(frame, Tensor) or frame.dtype != torch.uint8 or frame.shape != state:
            given = f"{frame.dtype} {tuple(frame.shape)}" if isinstance(frame, Tensor) else type(frame).__name__
            raise UserError(f"{self.label} returns frames of {given}, not of torch.uint8 {tuple(state)}")
        return state, to_signed(frame.cpu())


def _module(path: Path) -> ModuleType:
    """Executes the file without writing a `.pyc` next to it, as an import would."""
    module = ModuleType(f"daydrive_adapter_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(path.read_bytes(), path, "exec"), vars(module))
    return module


def _function(label: str, module: ModuleType, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{label}: the file has no function '{name}'{did_you_mean(name, public)}")
    return cast(Callable[..., Any], function)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder.absolute()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.absolute()))
