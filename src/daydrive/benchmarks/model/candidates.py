"""Who is measured: the checkpoint's model, other people's, and the baselines, all by the same interface."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from daydrive.checkpoint import RolloutModel, load
from daydrive.errors import UserError
from daydrive.evaluation.adapter import AdaptedModel, load_adapter
from daydrive.evaluation.metrics.baselines import flow_steps
from daydrive.models import Predictor, WorldModel, build_world_model
from daydrive.types import to_signed, to_uint8

Kind = Literal["model", "peer", "baseline"]


class Candidate(NamedTuple):
    """context_frames: that it wants to see. load: makes it, in any process. made_from: checkpoint and adapter."""

    name: str
    kind: Kind
    context_frames: int
    load: Callable[[torch.device], Predictor]
    made_from: str


class CopyLast:
    """The baseline that stands still."""

    context_frames = 1

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return images[:, -1]

    def step(self, state: Tensor, action: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return state, state.clone()


class ConstantFlow:
    """The baseline that moves on as it moved last."""

    context_frames = 2

    def init_state(
        self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> list[Iterator[Tensor]]:
        return [flow_steps(of_clip) for of_clip in to_uint8(images)]

    def step(
        self, state: list[Iterator[Tensor]], action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[list[Iterator[Tensor]], Tensor]:
        return state, to_signed(torch.stack([next(clip) for clip in state]))


def find_candidates(own: Sequence[RolloutModel], adapters: Sequence[str]) -> list[Candidate]:
    """own: of daydrive's, the first of which the others are compared with; adapters: `FILE.py:NAME@CHECKPOINT` each.

    UserError where two have the same name or one can't be loaded.
    """
    moved = ConstantFlow.context_frames
    candidates = [
        *(_candidate(loaded, "model" if loaded is own[0] else "peer") for loaded in own),
        *(_peer(text) for text in adapters),
        Candidate("copy_last", "baseline", 1, partial(_baseline, CopyLast), "the last frame, copied"),
        Candidate("constant_flow", "baseline", moved, partial(_baseline, ConstantFlow), "the last frame, moved"),
    ]
    named: dict[str, Candidate] = {}
    for candidate in candidates:
        other = named.setdefault(candidate.name, candidate)
        if other is not candidate:
            raise UserError(
                f"two models of this benchmark are called '{candidate.name}', {other.made_from} and "
                f"{candidate.made_from}; rename a run's folder, or give the adapter another `name`"
            )
    return candidates


def of_size(loaded: RolloutModel, image_size: tuple[int, int], device: torch.device) -> WorldModel:
    """The same settings with fresh weights for other images. UserError where they don't fit the size."""
    assert loaded.config is not None, "an adapter's model can't be built anew"
    settings = loaded.config.model.model_copy(update={"image_size": image_size})
    config = loaded.config.model_copy(update={"model": settings})
    return build_world_model(config).to(device).eval()


def modules(model: Predictor) -> list[nn.Module]:
    """The model's network, or those that an adapter holds as attributes."""
    if isinstance(model, nn.Module):
        return [model]
    held = model.adapter if isinstance(model, AdaptedModel) else model
    return [value for value in getattr(held, "__dict__", {}).values() if isinstance(value, nn.Module)]


def _candidate(loaded: RolloutModel, kind: Kind) -> Candidate:
    name = loaded.path.parent.parent.name or "model"
    return Candidate(name, kind, loaded.context_frames, partial(_own, loaded.path), str(loaded.path))


def _own(path: Path, device: torch.device) -> Predictor:
    return load(path, device).model


def _peer(text: str) -> Candidate:
    parts = re.fullmatch(r"(.+\.py:[^@]+)@(.+)", text)
    if parts is None:
        raise UserError(f"--adapter {text} has to be FILE.py:NAME@CHECKPOINT, a function and what it loads")
    spec, checkpoint = parts[1], Path(parts[2])
    adapter = load_adapter(spec, checkpoint, torch.device("cpu"))
    return Candidate(adapter.name, "peer", adapter.context_frames, partial(load_adapter, spec, checkpoint), text)


def _baseline(kind: Callable[[], Predictor], device: torch.device) -> Predictor:
    return kind()
