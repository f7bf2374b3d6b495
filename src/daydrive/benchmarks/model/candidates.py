"""The models to benchmark: daydrive checkpoints, adapters of external models, and baselines, with one interface."""

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
    """A model to benchmark. load: creates it, in any process; made_from: checkpoint or adapter, for the report."""

    name: str
    kind: Kind
    context_frames: int
    load: Callable[[torch.device], Predictor]
    made_from: str


class CopyLast:
    """Baseline that repeats the last context frame."""

    context_frames = 1

    def init_state(self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return images[:, -1]

    def step(self, state: Tensor, action: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return state, state.clone()


class ConstantFlow:
    """Baseline that extrapolates the last optical flow."""

    context_frames = 2

    def init_state(
        self, images: Tensor, actions: Tensor, generator: torch.Generator | None = None
    ) -> list[Iterator[Tensor]]:
        return [flow_steps(clip) for clip in to_uint8(images)]

    def step(
        self, state: list[Iterator[Tensor]], action: Tensor, generator: torch.Generator | None = None
    ) -> tuple[list[Iterator[Tensor]], Tensor]:
        return state, to_signed(torch.stack([next(clip) for clip in state]))


def find_candidates(own: Sequence[RolloutModel], adapters: Sequence[str]) -> list[Candidate]:
    """All models to benchmark.

    own: daydrive checkpoints; the first is the one the others are compared with. adapters: `FILE.py:NAME@CHECKPOINT`
    each. Raises UserError if two models have the same name or one cannot be loaded.
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
                f"{candidate.made_from}; rename a run folder, or change the `name` of an adapter"
            )
    return candidates


def of_size(loaded: RolloutModel, image_size: tuple[int, int], device: torch.device) -> WorldModel:
    """An untrained model with the same settings for another image size; raises UserError if they do not fit it."""
    assert loaded.config is not None, "the model of an adapter cannot be rebuilt"
    settings = loaded.config.model.model_copy(update={"image_size": image_size})
    config = loaded.config.model_copy(update={"model": settings})
    return build_world_model(config).to(device).eval()


def modules(model: Predictor) -> list[nn.Module]:
    """The model itself if it is a module, else the modules that an adapter has as attributes."""
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
    match = re.fullmatch(r"(.+\.py:[^@]+)@(.+)", text)
    if match is None:
        raise UserError(f"--adapter {text} has to be FILE.py:NAME@CHECKPOINT, a function and the checkpoint it loads")
    spec, checkpoint = match[1], Path(match[2])
    adapter = load_adapter(spec, checkpoint, torch.device("cpu"))
    return Candidate(adapter.name, "peer", adapter.context_frames, partial(load_adapter, spec, checkpoint), text)


def _baseline(kind: Callable[[], Predictor], device: torch.device) -> Predictor:
    return kind()
