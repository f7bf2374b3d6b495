"""Traces a model into two graphs: `init`, from context frames to a state, and `step`, from a state to the next.

Graphs are deterministic: models that sample return their most likely frames. Shapes: B clips, of any number; C context
frames; H height; W width. Images are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from daydrive.errors import UserError, errors_attributed_to
from daydrive.export.state import ROOT, flatten, rebuild
from daydrive.models import WorldModel

EXAMPLES = 2
"""Batch size of the example inputs; torch.export treats 0 and 1 as constants."""


class StateTensor(NamedTuple):
    """name: path within the state; shape: of one clip, without the batch dimension, which comes first."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def next_name(self) -> str:
        """Name of the same tensor after a step."""
        return "next" + self.name.removeprefix(ROOT)


class Graphs(NamedTuple):
    """step: action (B, action_dim) and state → frame (B, 3, H, W) and the next state. init: images (B, C, 3, H, W) and
    actions (B, C-1, action_dim) → state; None if it cannot be exported, with the reason in `no_init`."""

    state: list[StateTensor]
    step: ExportedProgram
    init: ExportedProgram | None
    no_init: str | None = None


def trace(model: WorldModel) -> Graphs:
    """The graphs of a model in evaluation mode on the CPU. Raises UserError if the step cannot be exported."""
    height, width = model.image_size
    context, action_dim = model.context_frames, model.config.action_dim
    images = torch.zeros(EXAMPLES, context, 3, height, width)
    actions = torch.zeros(EXAMPLES, context - 1, action_dim)
    label = f"exporting the model architecture '{model.config.type}'"
    with torch.no_grad(), errors_attributed_to(label):
        start = model.init_state(images, actions)
        state = _state_tensors(start)
        step = _StepGraph(model, start).eval()
        _check_constant(model, start, actions.new_zeros(EXAMPLES, action_dim))
        inputs = (actions.new_zeros(EXAMPLES, action_dim), *flatten(start).values())
        traced = _export(step, inputs)
        try:
            init = _export(_InitGraph(model).eval(), (images, actions))
        except Exception as error:
            return Graphs(state, traced, None, f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
    return Graphs(state, traced, init)


class _StepGraph(nn.Module):
    def __init__(self, model: WorldModel, start: Any) -> None:
        super().__init__()
        self.model, self._start, self._names = model, start, list(flatten(start))

    def forward(self, action: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        after, frame = self.model.step(rebuild(self._start, iter(state)), action)
        tensors = flatten(after)
        return (frame.clamp(-1, 1), *(tensors[name] for name in self._names))


class _InitGraph(nn.Module):
    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        return tuple(flatten(self.model.init_state(images, actions)).values())


def _export(module: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram:
    batch = Dim("batch", min=1, max=4096)
    shapes: Any = [{0: batch} for _ in inputs]
    if isinstance(module, _StepGraph):
        shapes = [shapes[0], tuple(shapes[1:])]
    return torch.export.export(module, tuple(inputs), dynamic_shapes=tuple(shapes), strict=False)


def _state_tensors(start: Any) -> list[StateTensor]:
    tensors = flatten(start)
    for name, tensor in tensors.items():
        if tensor.ndim == 0 or len(tensor) != EXAMPLES:
            raise UserError(
                f"the model cannot be exported: the first dimension of its {name}, {tuple(tensor.shape)} for "
                f"{EXAMPLES} clips, is not the clip"
            )
    return [
        StateTensor(name, tuple(tensor.shape[1:]), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    ]


def _check_constant(model: WorldModel, start: Any, action: Tensor) -> None:
    """Raise UserError if a step changes the shape or drops a part of the state."""
    before, after = flatten(start), flatten(model.step(start, action)[0])
    for name, tensor in before.items():
        if name not in after or after[name].shape != tensor.shape:
            found = tuple(after[name].shape) if name in after else "missing"
            raise UserError(
                f"the model cannot be exported: the size of a state is constant, and its {name} of "
                f"{tuple(tensor.shape)} is {found} after a step"
            )
