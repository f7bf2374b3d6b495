"""Who is measured: the checkpoint's model, other people's, and the floors, all behind the same adapter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from daydrive.checkpoint import LoadedModel, load
from daydrive.errors import UserError
from daydrive.evaluation.adapter import Adapter, Context, Foreign, load_adapter
from daydrive.evaluation.metrics.baselines import flow_steps
from daydrive.models import WorldModel, build_world_model
from daydrive.types import to_signed, to_uint8

Kind = Literal["model", "peer", "baseline"]


class Candidate(NamedTuple):
    """context: frames that it wants to see. load: makes it, in any process. made_from: checkpoint and adapter."""

    name: str
    kind: Kind
    context: int
    load: Callable[[torch.device], Adapter]
    made_from: str


class Ours:
    """A world model, step by step."""

    def __init__(self, model: WorldModel, context: int, device: torch.device) -> None:
        self.model, self.context, self._device = model.to(device).eval(), context, device

    @torch.no_grad()
    def reset(self, context: Context) -> None:
        images = to_signed(context.images.to(self._device))
        self._state = self.model.begin(images, context.actions.to(self._device))

    @torch.no_grad()
    def step(self, action: Tensor) -> Tensor:
        self._state = self.model.predict(self._state, action.to(self._device))
        return to_uint8(self._state.picture)


class CopyLast:
    """The floor that stands still."""

    context = 1

    def reset(self, context: Context) -> None:
        self._last = context.images[:, -1]

    def step(self, action: Tensor) -> Tensor:
        return self._last.clone()


class ConstantFlow:
    """The floor that moves on as it moved last."""

    context = 2

    def reset(self, context: Context) -> None:
        self._clips: list[Iterator[Tensor]] = [flow_steps(images) for images in context.images]

    def step(self, action: Tensor) -> Tensor:
        return torch.stack([next(clip) for clip in self._clips])


def find_candidates(loaded: LoadedModel, adapters: Sequence[str]) -> list[Candidate]:
    """adapters: `FILE.py:NAME@CHECKPOINT` each. UserError where two have the same name or one can't be loaded."""
    name, seen = loaded.path.parent.parent.name or "model", loaded.config.training.context_frames
    candidates = [
        Candidate(name, "model", seen, partial(_ours, loaded.path), str(loaded.path)),
        *(_peer(text) for text in adapters),
        Candidate("copy_last", "baseline", CopyLast.context, partial(_baseline, CopyLast), "the last frame, copied"),
        Candidate(
            "constant_flow", "baseline", ConstantFlow.context, partial(_baseline, ConstantFlow), "the last frame, moved"
        ),
    ]
    named: dict[str, Candidate] = {}
    for candidate in candidates:
        other = named.setdefault(candidate.name, candidate)
        if other is not candidate:
            raise UserError(
                f"two models of this benchmark are called '{candidate.name}', {other.made_from} and "
                f"{candidate.made_from}; give the adapter another `name`"
            )
    return candidates


def of_size(loaded: LoadedModel, image_size: tuple[int, int], device: torch.device) -> Ours:
    """The same settings with fresh weights for other pictures. UserError where they don't fit the size."""
    settings = loaded.config.model.model_copy(update={"image_size": image_size})
    return Ours(build_world_model(settings), loaded.config.training.context_frames, device)


def modules(adapter: Adapter) -> list[nn.Module]:
    """The networks that an adapter holds as attributes."""
    held = adapter.adapter if isinstance(adapter, Foreign) else adapter
    return [value for value in getattr(held, "__dict__", {}).values() if isinstance(value, nn.Module)]


def _ours(path: Path, device: torch.device) -> Ours:
    loaded = load(path, device)
    return Ours(loaded.model, loaded.config.training.context_frames, device)


def _peer(text: str) -> Candidate:
    parts = re.fullmatch(r"(.+\.py:[^@]+)@(.+)", text)
    if parts is None:
        raise UserError(f"--adapter {text} has to be FILE.py:NAME@CHECKPOINT, a function and what it loads")
    spec, checkpoint = parts[1], Path(parts[2])
    adapter = load_adapter(spec, checkpoint, torch.device("cpu"))
    return Candidate(adapter.name, "peer", adapter.context, partial(load_adapter, spec, checkpoint), text)


def _baseline(kind: Callable[[], Adapter], device: torch.device) -> Adapter:
    return kind()
