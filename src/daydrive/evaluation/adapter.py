"""Models of others: a few lines in a Python file make one dream, so that every report and benchmark can be of it.

def load(checkpoint: Path, device: torch.device) -> Adapter: ...     evaluate --adapter FILE.py:load
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor

from daydrive.errors import UserError, did_you_mean, errors_attributed_to
from daydrive.types import to_signed, to_uint8

NEEDED = ("context", "reset", "step")


class Context(NamedTuple):
    """What a model sees before it dreams.

    images: uint8 (B, C, 3, H, W), RGB, the newest last. actions: float32 (B, C-1, 4), between these images; their order
    and ranges are those of `daydrive.types.ACTION_NAMES`. Both on the processor.
    """

    images: Tensor
    actions: Tensor


class Adapter(Protocol):
    """A model that dreams step by step. `context`: how many frames it wants to see, at least 1.

    It may also have a `name`, for the reports; without one it goes by that of the function that made it.
    """

    context: int

    def reset(self, context: Context) -> None:
        """Begin a dream of B clips anew."""

    def step(self, action: Tensor) -> Tensor:
        """float32 (B, 4), what the driver does from the newest frame to the next → that frame, uint8 (B, 3, H, W)."""


def load_adapter(spec: str, checkpoint: Path, device: torch.device) -> AdaptedModel:
    """What the function of `FILE.py:NAME` makes of a checkpoint, which is handed over as it is.

    The file's folder is there to import from while it loads. UserError naming the file for what it lacks, and later
    for frames that are none.
    """
    file, colon, name = spec.rpartition(":")
    path = Path(file)
    if not colon or path.suffix != ".py" or not name:
        raise UserError(f"the adapter '{spec}' has to be FILE.py:NAME, a Python file and a function in it")
    if not path.is_file():
        raise UserError(f"the adapter '{spec}': there is no file {path}")
    who = f"the adapter '{spec}'"
    with errors_attributed_to(who), _importable(path.parent):
        made = _function(who, _module(path), name)(checkpoint, device)
    missing = [needed for needed in NEEDED if not hasattr(made, needed)]
    if missing:
        raise UserError(f"{who} returns a {type(made).__name__} without '{missing[0]}'; it needs {', '.join(NEEDED)}")
    if not isinstance(made.context, int) or made.context < 1:
        raise UserError(f"{who} has the context {made.context!r}, not a whole number of frames from 1 on")
    return AdaptedModel(who, str(getattr(made, "name", name)), made)


class AdaptedModel:
    """An adapter as a model that can be rolled out, one rollout at a time; its faults are told as its file's.

    who: the adapter, for the sentence.
    """

    def __init__(self, who: str, name: str, adapter: Adapter) -> None:
        self.who, self.name, self.adapter = who, name, adapter
        self.context_frames = adapter.context

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> torch.Size:
        """The shape of a frame: what else there is to know the adapter knows."""
        context = Context(to_uint8(images), actions)
        with errors_attributed_to(self.who):
            self.adapter.reset(context)
        return context.images[:, 0].shape

    def step(
        self, state: torch.Size, action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Size, Tensor]:
        with errors_attributed_to(self.who):
            frame = self.adapter.step(action)
        if not isinstance(frame, Tensor) or frame.dtype != torch.uint8 or frame.shape != state:
            given = f"{frame.dtype} {tuple(frame.shape)}" if isinstance(frame, Tensor) else type(frame).__name__
            raise UserError(f"{self.who} gives frames of {given}, not of torch.uint8 {tuple(state)}")
        return state, to_signed(frame.cpu())


def _module(path: Path) -> ModuleType:
    """Leaves no compiled file beside it, as importing would."""
    module = ModuleType(f"daydrive_adapter_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(path.read_bytes(), path, "exec"), vars(module))
    return module


def _function(who: str, module: ModuleType, name: str) -> Callable[[Path, torch.device], Adapter]:
    function = getattr(module, name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{who}: there is no function '{name}' in it{did_you_mean(name, public)}")
    return cast(Callable[[Path, torch.device], Adapter], function)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder.absolute()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.absolute()))
